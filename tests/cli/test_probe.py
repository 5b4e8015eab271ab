"""`onevision probe`: from the command to a page, and what it refuses."""

import json
import shutil

import pytest
from PIL import Image as PIL

from tests.cli.conftest import run
from tests.cli.invoke import fail

TASK = """
title: Colours
groups: []
dataset: me/colours
split: test
images: [image]
prompt: "{question}"
max_new_tokens: 16
scorer: exact_match
"""


def answers(folder):
    lines = map(json.loads, (folder / "answers.jsonl").read_text().splitlines())
    return {(one["probe"], one["level"], one["index"]): one for one in lines}


def what_was_said(folder):
    return {place: (one["answer"], one["score"]) for place, one in answers(folder).items()}


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A finished run of two probes, and what the command printed."""
    folder = tmp_path_factory.mktemp("probe") / "out"
    done = run("probe", "tiny", "--only", "noise,absent", "--count", 3, "-o", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_answers_and_a_page_are_written(probed):
    folder, said = probed
    found = answers(folder)
    assert len(found) == 3 * (6 + 6)
    assert {place[1] for place in found if place[0] == "noise"} == {"0", "8", "16", "32", "64",
                                                                    "128"}  # fmt: skip
    lines = said.splitlines()
    assert lines[0].startswith("noise        0: ")
    assert lines[-1] == str(folder / "probe.html")
    page = (folder / "probe.html").read_text()
    assert page.count('<svg class="plot"') == 2
    wrong = [one for one in found.values() if one["score"] < 1]
    assert wrong, "noise of 128 fools the model"
    shown = [one for one in wrong if "picture" in one]
    assert page.count("data:image/jpeg;base64,") == len(shown) > 0
    assert (folder / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_made_from_the_answers_alone(probed, tmp_path):
    folder, said = probed
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("run.json", "answers.jsonl"):
        shutil.copy(folder / name, copied / name)
    done = run("probe", "--from", copied, "-o", tmp_path / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "page.html").read_bytes() == (folder / "probe.html").read_bytes()
    assert (tmp_path / "page.png").read_bytes() == (folder / "probe.png").read_bytes()
    assert done.stdout.splitlines()[:-1] == said.splitlines()[:-1]


def test_a_run_that_was_killed_continues(probed, tmp_path):
    folder, _ = probed
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    whole = (torn / "answers.jsonl").read_bytes()
    (torn / "answers.jsonl").write_bytes(whole[: len(whole) // 2])  # in the middle of a line
    done = run("probe", "tiny", "--only", "noise,absent", "--count", 3, "-o", torn)
    assert done.returncode == 0, done.stderr
    assert what_was_said(torn) == what_was_said(folder)


def test_more_questions_are_added_to_what_is_there(probed, tmp_path):
    folder, _ = probed
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    done = run("probe", "tiny", "--only", "absent", "--count", 4, "-o", more)
    assert done.returncode == 0, done.stderr
    before, after = what_was_said(folder), what_was_said(more)
    assert {place: after[place] for place in before} == before
    assert len(after) == len(before) + 6


def test_another_seed_needs_another_folder(probed):
    folder, _ = probed
    said = fail("probe", "tiny", "--only", "noise", "--seed", 1, "-o", folder)
    assert "seed: 0 -> 1" in said
    assert "give another --output" in said


@pytest.fixture
def colours(tmp_path):
    """A benchmark of two pictures, and its task."""
    folder = tmp_path / "data" / "colours"
    folder.mkdir(parents=True)
    rows = []
    for colour in ("white", "black"):
        PIL.new("RGB", (98, 98), colour).save(folder / f"{colour}.png")
        question = "What colour is the background?"
        rows.append({"image": f"{colour}.png", "question": question, "answer": colour})
    (folder / "test.json").write_text(json.dumps(rows))
    (tmp_path / "colours.yaml").write_text(TASK)
    return tmp_path


def test_a_benchmark_is_asked_about_corrupted_pictures(colours):
    out = colours / "out"
    done = run(
        "probe", "--tasks", colours / "colours.yaml", "--data", colours / "data",
        "--only", "contrast", "-o", out,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = answers(out)
    assert len(found) == 2 * 6
    assert {found["contrast", "as is", row]["expected"] for row in (0, 1)} == {"white", "black"}
    evaluated = run("eval", "--tasks", colours / "colours.yaml", "--data", colours / "data",
                    "-o", colours / "eval")  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    lines = (colours / "eval" / "colours" / "answers.jsonl").read_text().splitlines()
    plain = {one["row"]: one["answer"] for one in map(json.loads, lines)}
    assert {row: found["contrast", "as is", row]["answer"] for row in (0, 1)} == plain
    assert "Probes of tiny: colours" in (out / "probe.html").read_text()


def test_own_records_are_asked_about_and_what_cannot_be_is_counted(colours):
    records = [
        {"image": name, "conversations": [
            {"from": "human", "value": "<image>\nWhat colour is the background?"},
            {"from": "gpt", "value": "white"},
        ]}
        for name in ("white.png", "absent.png")
    ]  # fmt: skip
    mine = colours / "data" / "colours" / "mine.json"
    mine.write_text(json.dumps(records))
    done = run("probe", "--data", mine, "--only", "blur", "-o", colours / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: 1 of the first rows are not asked; the first: ")
    assert len(answers(colours / "out")) == 6


def test_probes_are_listed_with_what_was_trained():
    done = run("probe", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "noise        Gaussian noise, standard deviation of 255 (benchmarks too)" in done.stdout
    assert "56, *98, *196, *392, 784, 1,568, 4,096" in done.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["--only", "nois", "-o", "x"], "--only: no probe 'nois'; did you mean 'noise'?"),
    (["--count", "0", "-o", "x"], "--count is 0; expected 1 or more"),
    ([], "the answers need a folder; give --output"),
    (["tiny", "-m", "tiny", "-o", "x"], "the model is given twice"),
    (["no-such-model", "-o", "x"], "no-such-model"),
    (["--keep", "2", "-o", "x"], "keep is 2.0; expected a number"),
    (["--from", "none"], "cannot be read"),
    (["--from", "none", "--count", "3"], "--count has no effect on a page"),
    (["--list", "--count", "3"], "--count has no effect on the list"),
    (["--tasks", "chartqaa", "-o", "x"], "no task or group 'chartqaa'; did you mean 'chartqa'"),
    (["--tasks", "chartqa", "--only", "frames", "-o", "x"], "'frames' needs drawn worlds"),
    (["--tasks", "videomme", "-o", "x"], "asks about videos"),
    (["--tasks", "mmmu", "-o", "x"], "mmmu is 2 tasks; probe one of mmmu_val, mmmu_test"),
    (["--tasks", "chartqa", "--data", "none", "-o", "x"], "none"),
    (["--data", "none.json", "-o", "x"], "no such file or folder"),
    (["--tasks", "chartqa", "--suffix", "One word.", "-o", "x"], "--suffix has no effect"),
    (["--suffix", "", "--only", "", "--count", "1", "-o", "file"], "it is a file"),
])  # fmt: skip
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert message in fail("probe", *arguments)
