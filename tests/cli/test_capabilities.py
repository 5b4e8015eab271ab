"""`onevision capabilities` and `teach`: from the command to a page, and what they refuse."""

import json
import shutil
from pathlib import Path

import pytest

from onevision.science.capabilities.capability import CAPABILITIES
from onevision.train.start import find_start
from tests.cli.conftest import run
from tests.cli.invoke import fail

DOCS = Path(__file__).parents[2] / "docs"


def answers(folder):
    lines = (folder / "capabilities" / "answers.jsonl").read_text().splitlines()
    return {(one["probe"], one["index"]): one for one in map(json.loads, lines)}


def what_was_said(folder):
    return {place: (one["answer"], one["score"]) for place, one in answers(folder).items()}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A finished exam of two capabilities, and what the command printed."""
    folder = tmp_path_factory.mktemp("capabilities") / "out"
    done = run("capabilities", "tiny", "--only", "S2,S9", "--count", 4, "-o", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_answers_and_a_page_with_examples_are_written(asked):
    folder, said = asked
    assert set(answers(folder)) == {(name, n) for name in ("S2", "S9") for n in range(4)}
    assert said.splitlines()[0].startswith("S2 Taps on a phone")
    assert said.splitlines()[-1] == str(folder / "capabilities.md")
    page = (folder / "capabilities.md").read_text()
    assert "| **S9** An image that refers to a thing in a video | 4 |" in page
    assert "**Not run yet.**" in page
    for name in ("S2", "S9", "accuracy"):
        assert f"(capabilities/{name}.png)" in page
        assert (folder / "capabilities" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_made_from_the_answers_alone(asked, tmp_path):
    folder, said = asked
    (tmp_path / "capabilities").mkdir()
    for name in ("run.json", "answers.jsonl"):
        shutil.copy(folder / "capabilities" / name, tmp_path / "capabilities" / name)
    done = run("capabilities", "--report", "-o", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("capabilities.md", "capabilities/S2.png", "capabilities/accuracy.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert done.stdout.splitlines()[:-1] == said.splitlines()[:-1]


def test_an_exam_that_was_killed_continues_and_grows(asked, tmp_path):
    folder, _ = asked
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    path = torn / "capabilities" / "answers.jsonl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # in the middle of a line
    done = run("capabilities", "tiny", "--only", "S2,S9", "--count", 5, "-o", torn)
    assert done.returncode == 0, done.stderr
    before, after = what_was_said(folder), what_was_said(torn)
    assert {place: after[place] for place in before} == before
    assert len(after) == len(before) + 2


def test_answers_to_other_questions_have_no_page(asked, tmp_path):
    folder, _ = asked
    shutil.copytree(folder, tmp_path / "old")
    path = tmp_path / "old" / "capabilities" / "answers.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"question": "', '"question": "Please: ', 1))
    page = (tmp_path / "old" / "capabilities.md").read_bytes()
    assert "ask again in another folder" in fail("capabilities", "--report", "-o", tmp_path / "old")
    assert (tmp_path / "old" / "capabilities.md").read_bytes() == page


def test_the_page_in_the_docs_is_what_the_raw_answers_say(tmp_path):
    (tmp_path / "capabilities").mkdir()
    shutil.copy(DOCS / "capabilities.md", tmp_path)
    for path in (DOCS / "capabilities").glob("*.json*"):
        shutil.copy(path, tmp_path / "capabilities")
    done = run("capabilities", "--report", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "capabilities.md").read_text() == (DOCS / "capabilities.md").read_text()
    assert len(answers(tmp_path)) >= 100 * len(CAPABILITIES)


def test_capabilities_are_listed_with_what_their_arms_learn():
    done = run("capabilities", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("never ") == 9
    assert "S8  Visual prompts in a video (single image -> video)" in done.stdout
    assert "learns 50% pointed_stills, 50% deeds; never anything drawn" in done.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--only", "S0", "-o", "x"], "--only: no capability 'S0'; "),
    (["--count", "0", "-o", "x"], "--count is 0; expected 1 or more"),
    ([], "the answers need a folder; give --output"),
    (["tiny", "-m", "tiny", "-o", "x"], "the model is given twice"),
    (["--report", "-o", "none"], "cannot be read"),
    (["--report", "-o", "none", "--count", "3"], "--count has no effect on a page"),
    (["--list", "--seed", "3"], "--seed has no effect on the list"),
    (["--count", "1", "-o", "file"], "it is a file"),
])  # fmt: skip
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert message in fail("capabilities", *arguments)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Both arms of one capability, each on a handful of samples, with two seeds."""
    folder = tmp_path_factory.mktemp("teach")
    arguments = ("teach", "S9", "--seed", 0, "--seed", 1, "--rehearse", "-o", folder)
    done = run(*arguments, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    return folder, arguments, done.stdout


@pytest.mark.slow
def test_both_arms_are_trained_and_asked(taught):
    folder, _, said = taught
    assert said.splitlines()[-1] == f"wrote {folder / 'capabilities' / 'trials.json'}"
    trials = json.loads((folder / "capabilities" / "trials.json").read_text())
    assert [(t["arm"], t["seed"]) for t in trials] == [
        (f"S9-{arm}", seed) for seed in (0, 1) for arm in ("transfer", "taught")
    ]
    for trial in trials:
        assert trial["samples"] == 16 and trial["operations"] > 0
        assert {row["scenario"] for row in trial["answers"]} == {"S9"}
        assert sum(row["asked"] for row in trial["answers"]) == 4
        assert (folder / f"seed-{trial['seed']}" / trial["arm"] / "exam" / "answers.jsonl").exists()


@pytest.mark.slow
def test_finished_arms_are_skipped(taught):
    folder, arguments, _ = taught
    before = (folder / "capabilities" / "trials.json").read_bytes()
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"finished", "wrote"}
    assert (folder / "capabilities" / "trials.json").read_bytes() == before
    listed = run(*arguments, "--list", "--arm", "taught").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["seed-0/S9-taught", "seed-1/S9-taught"]
    assert {line.split()[-1] for line in listed} == {"finished"}


@pytest.mark.slow
def test_trials_are_on_the_page(taught, asked, tmp_path):
    shutil.copytree(asked[0], tmp_path / "docs")
    shutil.copy(taught[0] / "capabilities" / "trials.json", tmp_path / "docs" / "capabilities")
    done = run("capabilities", "--report", "-o", tmp_path / "docs")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "docs" / "capabilities.md").read_text()
    assert "A rehearsal" in page
    assert "All 4 trials began with tiny; " in page
    row = next(line for line in page.splitlines() if line.startswith("| **S9**") and "±" in line)
    assert row.count("±") == 5
    assert "| **S1** Diagram and chart read jointly | not run |" in page


@pytest.mark.slow
def test_a_rehearsal_is_not_mixed_with_results(taught, tmp_path):
    folder, arguments, _ = taught
    place = tmp_path / "capabilities"
    place.mkdir()
    trials = json.loads((folder / "capabilities" / "trials.json").read_text())
    real = [trial | {"rehearsal": False} for trial in trials]
    (place / "trials.json").write_text(json.dumps(real))
    assert "it holds rehearsals beside" in fail(*arguments, "--docs", tmp_path)


@pytest.mark.slow
def test_arms_of_different_models_are_not_mixed(taught, tmp_path):
    folder, _, _ = taught
    trials = json.loads((folder / "capabilities" / "trials.json").read_text())
    assert {trial["start"] for trial in trials} == {"tiny"}
    copy = tmp_path / "mine"
    shutil.copytree(find_start("tiny"), copy)
    said = fail("teach", "S9", "--from", copy, "--rehearse", "-o", tmp_path, "--docs", folder)
    assert "its trials began with tiny, these begin with weights " in said
    assert str(copy) not in said
    assert not (tmp_path / "seed-0").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["S10"], "CAPABILITY: no capability 'S10'"),
    (["S1", "--arm", "taughtt"], "--arm: no arm 'taughtt'; did you mean 'taught'"),
    (["S1", "--seed", "-1"], "--seed is -1; expected 0 or more"),
    (["S1", "--from", "no-such-model"], "no-such-model"),
    (["S1", "--list", "--jobs", "1"], "--jobs has no effect on the list"),
])  # fmt: skip
def test_mistakes_of_teaching_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fail("teach", *arguments)
