"""Options that a use of a command would ignore are refused in one line, before any work."""

import pytest
from PIL import Image as PIL

from tests.cli.conftest import run

JUDGED = ("eval", "--tasks", "mmvet", "-o", "out")
ADDRESS = ("--judge", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("ask", "Hi", "--seed", "1"), "--seed has no effect on a greedy answer"),
        (("ask", "Hi", "-i", "a.png", "--num-frames", "8"), "--num-frames has no effect on a que"),
        (("explain", "a.png", "--num-frames", "8"), "--num-frames has no effect on what holds no"),
        (("explain", "--size", "9x9", "--num-frames", "8"), "--num-frames has no effect on what"),
        (("science", "--list", "--jobs", "4"), "--jobs has no effect on the list of the runs"),
        (("science", "--list", "--docs", "."), "--docs has no effect on the list of the runs"),
        (("science", "--list", "--report"), "--report has no effect on the list of the runs"),
        (("science", "--report", "--jobs", "4"), "--jobs has no effect on the page"),
        (("science", "--report", "--only", "stages"), "--only has no effect on the page"),
        (("science", "--report", "-o", "runs"), "--output has no effect on the page"),
        (
            ("synth", "write", "set", "--family", "clips", "--image-format", "jpeg"),
            "--image-format has no effect on clips, which has no images",
        ),
        (
            ("finetune", "a.png", "--held-out", "none", "--patience", "2"),
            "--patience has no effect on a run with --held-out none",
        ),
        (
            ("prefer", "p.jsonl", "--from", "tiny", "-o", "out", "--no-learn", "--peak-tflops", 1),
            "--peak-tflops has no effect on a run with --no-learn",
        ),
        (("judge", "out", *ADDRESS, "--device", "cpu"), "--device has no effect on judges behind"),
        (("judge", "out", *ADDRESS, "--dtype", "float32"), "--dtype has no effect on judges"),
        (("judge", "out", "--judge", "tiny", "--judge-model", "x"), "--judge-model has no effect"),
        (
            ("scienceqa", "ensemble", "out", "-o", "both", *ADDRESS, "--device", "cpu"),
            "--device has no effect on judges behind an address",
        ),
        (
            ("scienceqa", "ensemble", "out", "-o", "b", "--judge", "tiny", "--judge-model", "x"),
            "--judge-model has no effect on judges that run here",
        ),
        ((*JUDGED, "--judge", "tiny", "--judge-model", "x"), "--judge-model has no effect on jud"),
        ((*JUDGED, "--score-only", *ADDRESS, "--device", "cpu"), "--device has no effect on judge"),
        ((*JUDGED, "--score-only", "--limit", "3"), "--limit has no effect on answers that are"),
        ((*JUDGED, "--score-only", "--temperature", "1"), "--temperature has no effect on answers"),
    ],
)
def test_an_option_without_effect_is_refused(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PIL.new("RGB", (9, 9)).save("a.png")
    done = run(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.endswith("; leave it out\n") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_is_heeded_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("ask", "Hi", "--seed", "1", "--temperature", "0.5", "--max-new-tokens", "2")
    assert done.returncode == 0, done.stderr
    told = ("--family", "things", "--image-format", "jpeg", "--count", "1")
    done = run("synth", "write", "set", *told)
    assert (done.returncode, done.stdout) == (0, "wrote 1 sample: set/things.json\n")
