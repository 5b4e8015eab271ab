"""A model that learns from its own descriptions: the loop from the door to a checkpoint."""

import json

import pytest

from onevision import load
from onevision.curate.learning.measure import Measured
from tests.curate.conftest import run, write_pictures

QUICK = ("--count", 2, "--set", "global_batch=2", "--set", "learning_rate=1e-4",
         "--set", "vision_learning_rate=1e-5", "--set", "num_workers=0")  # fmt: skip


@pytest.mark.slow
def test_two_rounds_describe_filter_learn_and_measure(tmp_path):
    write_pictures(tmp_path, 3, size=None)
    told = ("curate", "improve", tmp_path / "pictures", "-o", tmp_path / "runs", *QUICK)
    found = run(*told, "--rounds", 1)
    assert found.returncode == 0, found.stderr
    assert "before: " in found.stdout and "of 2 held-out questions right" in found.stdout
    first = (tmp_path / "runs" / "round-1" / "after.json").read_bytes()
    again = run(*told)  # goes on with the second round, from the first round's model
    assert again.returncode == 0, again.stderr
    results = json.loads((tmp_path / "runs" / "results.json").read_text())
    assert [one["round"] for one in results["rounds"]] == [1, 2]
    assert all(0 < one["kept"] <= one["captions"] <= 3 for one in results["rounds"])
    assert (tmp_path / "runs" / "round-1" / "after.json").read_bytes() == first
    settings = json.loads((tmp_path / "runs" / "round-2" / "run" / "settings.json").read_text())
    assert settings["starts"] == [str(tmp_path / "runs" / "round-1" / "run" / "checkpoint")]
    assert load(tmp_path / "runs" / "round-2" / "run" / "checkpoint").config == load("tiny").config
    other = run(*told, "--seed", 1)
    assert "its rounds began with another seed" in other.stderr
    assert other.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rounds", 0), "--rounds is 0; expected 1 to 100"),
        (("--gate", "lengths=1-2"), "no gate is named 'lengths'; did you mean 'length'"),
        (("--questions", "none.json"), "--questions is 'none.json'; expected single_image"),
        (("--set", "learning_rat=1"), "no key 'learning_rat'; did you mean 'learning_rate'"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, said):
    write_pictures(tmp_path, 1)
    found = run("curate", "improve", tmp_path / "pictures", "-o", tmp_path / "runs", *options)
    assert found.returncode == 1 and said in found.stderr and found.stderr.count("\n") == 1


@pytest.mark.slow
def test_descriptions_that_no_gate_passes_stop_the_loop(tmp_path):
    write_pictures(tmp_path, 1, size=None)
    found = run("curate", "improve", tmp_path / "pictures", "-o", tmp_path / "runs", *QUICK,
                "--gate", "length=900-901")  # fmt: skip
    assert found.returncode == 1 and "none passes the gates; see left_out.jsonl" in found.stderr


def test_a_gain_is_that_of_the_later_model():
    before, after = Measured(right=(False, False, True)), Measured(right=(True, True, True))
    assert after.gain_over(before).value == pytest.approx(2 / 3)
