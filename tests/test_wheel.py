"""The wheel, and the journeys of someone who has nothing but it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from PIL import Image as PIL

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a wheel is built from."""
    folder = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "onevision", folder / "onevision", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, cwd=folder)
    for path in source.rglob("*"):  # what building has left there
        if path.is_file() and path.relative_to(source) not in files:
            path.unlink()
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel, source):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = {path for path in (source / "onevision").rglob("*") if path.is_file()}
    expected = {path.relative_to(source).as_posix() for path in files}
    assert expected - held == set()
    kinds = {Path(name).suffix for name in expected}
    assert kinds >= {".py", ".yaml", ".html", ".js", ".css", ".json", ".png", ".mp4"}
    assert {"onevision/mixtures/onevision.yaml", "onevision/mixtures/prompt_styles.yaml"} <= held


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a new environment that holds the wheel.

    Other packages come from this environment, whose onevision it cannot see.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    executable = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", executable, "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True, env=without_python_path())
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return executable


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with pictures and questions about them."""
    folder, records = tmp_path_factory.mktemp("desk"), []
    for number in range(8):
        name, answer = f"{number}.png", ("dark", "bright")[number // 4]
        picture = PIL.effect_mandelbrot((98, 98), (-2 + number / 4, -1, 1, 1), 10 + number)
        picture.point(lambda value, add=100 * (number // 4): value // 2 + add).save(folder / name)
        turns = [{"from": "human", "value": "<image>\nHow?"}, {"from": "gpt", "value": answer}]
        records.append({"image": name, "conversations": turns})
    (folder / "mine.json").write_text(json.dumps(records))
    return folder


def without_python_path():
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def environment(desk):
    return without_python_path() | {"ONEVISION_CACHE": str(desk / "cache"), "OMP_NUM_THREADS": "1"}


def run(python, desk, *arguments, code=0):
    done = subprocess.run(
        [python.with_name("onevision"), *map(str, arguments)],
        capture_output=True, text=True, cwd=desk, env=environment(desk), timeout=600,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_an_environment_with_the_wheel_uses_it(python, desk):
    command = [python, "-c", "import onevision; print(onevision.__file__)"]
    place = subprocess.check_output(command, cwd=desk, env=environment(desk), text=True)
    assert Path(place.strip()).is_relative_to(python.parents[1])
    assert "required" in run(python, desk, "doctor").stdout


@pytest.mark.slow
def test_the_wheel_demonstrates_and_explains(python, desk):
    assert "A: up" in run(python, desk, "demo").stdout
    assert "7,269 visual tokens" in run(python, desk, "explain", "--size", "1920x1080").stdout
    assert run(python, desk, "eval", "--tasks", "list").stdout.count("\n") > 50


@pytest.mark.slow
def test_the_wheel_plans_and_checks_published_mixtures(python, desk):
    plan = run(python, desk, "train", "align", "--model", "7b", "--plan", "-o", "plan").stdout
    assert "optimiser steps" in plan
    mixtures = next(python.parents[1].glob("lib/python*/site-packages/onevision/mixtures"))
    done = run(python, desk, "data", "check", mixtures / "onevision.yaml", code=3)
    for words in ("missing data set", "llava_next", "hf download"):
        assert words in done.stdout


@pytest.mark.slow
def test_the_wheel_finetunes_and_asks_the_result(python, desk):
    assert "8 samples, nothing to fix" in run(python, desk, "data", "check", "mine.json").stdout
    done = run(python, desk, "finetune", "mine.json", "--epochs", 1, "-o", "run")
    assert "onevision ask" in done.stdout
    run(python, desk, "ask", "How?", "-i", "0.png", "--model", "run/checkpoint")
    assert (desk / "run" / "report.html").is_file()


@pytest.mark.slow
def test_the_wheel_uses_its_adapters(python, desk):
    lora = ("--method", "lora", "--epochs", 1, "--held-out", "none", "-o", "lora")
    run(python, desk, "finetune", "mine.json", *lora)
    question = ("How?", "-i", "0.png")
    adapted = run(python, desk, "ask", *question, "--adapter", "lora/adapter").stdout
    run(python, desk, "convert", "--base", "tiny", "lora/adapter", "merged")
    assert run(python, desk, "ask", *question, "--model", "merged").stdout == adapted


@pytest.mark.slow
def test_the_wheel_evaluates_judges_and_reports(python, desk):
    done = run(python, desk, "eval", "--data", "mine.json", "--output", "own")
    assert "8 answers" in done.stdout
    assert (desk / "own").is_dir()
    judged = run(python, desk, "eval", "--data", "mine.json", "--judge", "tiny", "-o", "judged")
    assert "judge tiny: " in judged.stdout
    run(python, desk, "report", "own", "-o", "report")
    assert (desk / "report" / "report.html").is_file()


@pytest.mark.slow
def test_the_wheel_serves(python, desk):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [python.with_name("onevision"), "serve", "--port", str(port)],
        stderr=subprocess.PIPE, text=True, cwd=desk, env=environment(desk),
    )  # fmt: skip
    try:
        while not is_ready(port):
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.2)
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
        for name in re.findall(r'(?:src|href)="(\w+\.(?:js|css))"', page):
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}").status == 200
    finally:
        server.terminate()
        _, log = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "Traceback" not in log


def is_ready(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/ready").status == 200
    except urllib.error.URLError:
        return False
