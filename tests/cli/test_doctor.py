import importlib
from importlib.metadata import version

import pytest
import typer

from tests.cli.conftest import run

# `onevision.cli.doctor` is the command by now, not its module.
doctor = importlib.import_module("onevision.cli.doctor")


def test_doctor_prints_versions_devices_and_extras():
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split(" ", 1)[0]: line for line in done.stdout.splitlines()}
    assert f"torch {version('torch')}" in lines["required"]
    assert f"pyarrow {version('pyarrow')}" in lines["data"]
    assert "cores" in lines["processor"]
    assert "test" not in lines


def test_doctor_says_how_to_install_what_an_extra_lacks(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "wandb" else "1.0")
    doctor.doctor()
    assert "missing wandb: pip install 'onevision[wandb]'" in capsys.readouterr().out


def test_doctor_fails_if_a_required_package_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1.0")
    with pytest.raises(typer.Exit) as stopped:
        doctor.doctor()
    assert stopped.value.exit_code == 1
    assert "required packages are missing: torch" in capsys.readouterr().err
