"""The files of deploy/ match the server they start: options, limits and shutdown time."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from onevision.cli.serve import serve
from onevision.serve.protocol import IDLE_SECONDS
from onevision.serve.settings import Limits, ServerSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT",
                "CMD"}  # fmt: skip


def instructions():
    """Returns the instructions of the Dockerfile without comments and line continuations."""
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def options():
    app = typer.Typer()
    app.command()(serve)
    return {name for option in typer.main.get_command(app).params for name in option.opts}


def test_the_image_uses_known_instructions_and_runs_unprivileged():
    made = instructions()
    assert {name for name, _ in made} <= INSTRUCTIONS
    assert re.fullmatch(r"python:3\.11-slim-\w+", dict(made)["FROM"])
    names = [name for name, _ in made]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert dict(made)["USER"].isdigit()
    root = DEPLOY.parent
    copied = [value.split()[:-1] for name, value in made if name == "COPY"]
    assert all((root / path).exists() for paths in copied for path in paths)


def test_the_server_is_started_with_options_it_has():
    made = dict(instructions())
    words = json.loads(made["ENTRYPOINT"]) + json.loads(made["CMD"])
    started = re.search("ExecStart=(.*)", (DEPLOY / "onevision.service").read_text())[1].split()
    for command in (words, started):
        assert command[1] == "serve"
        assert {word for word in command if word.startswith("--")} <= options()


def test_the_unit_lets_answers_end():
    unit = (DEPLOY / "onevision.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > ServerSettings(name="a").drain_seconds


def test_a_unit_becomes_a_template_of_replicas(tmp_path):
    """By the command of docs/replicas.md."""
    command = re.search(r"^sed .*", (DEPLOY.parent / "docs" / "replicas.md").read_text(), re.M)[0]
    unit = tmp_path / "onevision@.service"
    command = command.replace("/etc/systemd/system/onevision@.service", str(unit))
    subprocess.run(command, shell=True, cwd=DEPLOY.parent, check=True)
    words = re.search("ExecStart=(.*)", unit.read_text())[1].split()
    assert words[1:4] == ["serve", "--port", "%i"]
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is absent")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if "onevision" in line]
    assert [line for line in complaints if "is not executable" not in line] == []


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-replicas.conf"])
def test_proxies_have_the_timeouts_and_limits_of_the_server(name):
    proxy, limits = (DEPLOY / name).read_text(), Limits()
    assert int(re.search(r"client_max_body_size (\d+)m", proxy)[1]) * 2**20 == limits.body_bytes
    assert int(re.search(r"proxy_read_timeout (\d+)s", proxy)[1]) > limits.request_seconds


def test_nginx_holds_whole_bodies_and_gives_up_idle_connections_first():
    proxy = (DEPLOY / "nginx-replicas.conf").read_text()
    whole = re.search(r"client_max_body_size (\w+);", proxy)[1]
    assert re.search(r"client_body_buffer_size (\w+);", proxy)[1] == whole
    assert int(re.search(r"keepalive_timeout (\d+)s", proxy)[1]) < IDLE_SECONDS
    waits = int(re.search(r"proxy_next_upstream_timeout (\d+)s", proxy)[1])
    assert waits > Limits().media_wait_seconds
