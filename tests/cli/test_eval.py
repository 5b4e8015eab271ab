import json
import signal
import subprocess
import sys
import time

import pytest
import yaml
from PIL import Image as PIL

from tests.cli.conftest import run
from tests.cli.invoke import fail

TASK = {
    "title": "Colours",
    "groups": [],
    "dataset": "somebody/colours",
    "split": "test",
    "images": ["image"],
    "prompt": "{question}",
    "max_new_tokens": 3,
    "scorer": "exact_match",
}


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """A task file and its data: eight questions about white pictures."""
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    PIL.new("RGB", (98, 98), "white").save(tmp_path / "data" / "white.png")
    row = {"question": "What colour is the background?", "answer": "white", "image": "white.png"}
    (tmp_path / "data" / "colours.jsonl").write_text((json.dumps(row) + "\n") * 8)
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(TASK))
    return ("eval", "--tasks", tmp_path / "colours.yaml", "--data", tmp_path / "data")


def test_a_killed_run_goes_on_and_is_scored_again_and_compared(colours, tmp_path):
    output, answers = tmp_path / "out", tmp_path / "out" / "colours" / "answers.jsonl"
    command = [*colours, "--output", output, "--batch-size", "1"]
    killed = subprocess.Popen([sys.executable, "-m", "onevision", *map(str, command)])
    while not (answers.exists() and answers.read_bytes()):
        assert killed.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = answers.read_bytes()
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "colours: 8 answers, exact_match 1 (95 %: 1 to 1)\n"
    assert answers.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert [json.loads(line)["row"] for line in answers.read_text().splitlines()] == list(range(8))
    assert run(*colours, "--output", output, "--score-only").stdout == done.stdout
    compared = run("eval", "--compare", output, output)
    assert compared.stdout.startswith("colours exact_match: 1 -> 1, +0 (95 %: +0 to +0), p 1, 8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tasks", "ai2d"), "error: --tasks needs a folder for its answers; give --output"),
        (("--tasks", "ai2e", "-o", "x"), "error: no task or group 'ai2e'; did you mean 'ai2d"),
        (("--tasks", "ai2d", "-o", "x", "--data", "nowhere"), "error: nowhere: no such folder"),
        (("--tasks", "ai2d", "-o", "x", "--profile", "new"), "error: --profile is 'new'; expected"),
        (
            ("--tasks", "colours.yaml", "-o", "x", "--judge", "tinny"),
            "error: colours.yaml: cannot be read",
        ),
        (("--compare", "nowhere", "nowhere"), "error: nowhere: no answers in it"),
        (("--score-only",), "error: --score-only has no effect on the held-out questions (give"),
    ],
)
def test_a_mistake_is_one_line(options, said, tmp_path):
    done = run("eval", *options)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "option", "use"),
    [
        (("--turns", "each", "--tasks", "ai2d", "-o", "x"), "--turns", "benchmarks"),
        (("--scorer", "anls", "--tasks", "ai2d", "-o", "x"), "--scorer", "benchmarks"),
        (("--count", "9", "--data", "mine.json"), "--count", "own records"),
        (("--profile", "now", "--data", "mine.json"), "--profile", "own records"),
        (("--repeat", "2"), "--repeat", "the held-out questions"),
        (("--judge", "tiny"), "--judge", "the held-out questions"),
        (("--compare", "a", "b", "--model", "tiny"), "--model", "--compare"),
        (("--tasks", "list", "--output", "x"), "--output", "--tasks list"),
        (("--rounds", "2", "--data", "mine.json"), "--rounds", "a run without --judge"),
        (("--judge-model", "m", "--tasks", "ai2d", "-o", "x"), "--judge-model", "a run without"),
    ],
)
def test_an_option_without_effect_is_refused(options, option, use):
    assert fail("eval", *options).startswith(f"{option} has no effect on {use}")


def test_tasks_are_listed():
    done = run("eval", "--tasks", "list")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("single_image", "mmbench_en_dev", "OpenGVLab/MVBench", "judge mmvet"):
        assert word in done.stdout


def test_heldout_questions_have_intervals(tmp_path):
    done = run("eval", "--count", "4", "--scenario", "single_image", "-o", tmp_path / "a.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert " to " in done.stdout.splitlines()[0]
    assert done.stdout.startswith("single_image: sighted ")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 8
