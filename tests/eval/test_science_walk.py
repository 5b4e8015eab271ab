"""ScienceQA from its release: training records, answers in QCM-LEA, and two models together."""

import json

import pytest

from onevision.data.mixture import open_mixture
from onevision.data.records import to_conversation
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.scoring.science_qa import find_science_letter
from tests.cli.invoke import fail, invoke
from tests.eval.conftest import encoded, write_json
from tests.eval.judge_server import serve

METAL = {
    "question": "Which is a metal?", "choices": ["iron", "wood"], "answer": 0, "hint": "Think.",
    "image": "image.png", "lecture": "Metals conduct heat.", "solution": "Iron does.",
    "subject": "natural science", "grade": "grade5",
}  # fmt: skip
GAS = {
    "question": "Which is a gas?", "choices": ["stone", "helium", "glass"], "answer": 1, "hint": "",
    "image": None, "lecture": "", "solution": "Helium floats.",
}  # fmt: skip


@pytest.fixture
def release(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEVISION_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "release"
    (root / "images" / "train" / "1").mkdir(parents=True)
    (root / "images" / "train" / "1" / "image.png").write_bytes(encoded("red"))
    (root / "problems.json").write_text(json.dumps({"1": METAL, "2": GAS, "3": GAS}))
    (root / "pid_splits.json").write_text(json.dumps({"train": ["1", "2"], "test": ["3"]}))
    return root


def test_the_release_becomes_training_records(release, tmp_path):
    printed = invoke("scienceqa", "convert", release, "-o", tmp_path / "sqa")
    assert "2 records, 1 with a picture" in printed
    source = open_mixture(tmp_path / "sqa" / "scienceqa_train.json").datasets[0].source
    shown, plain = (to_conversation(source.read(row)) for row in range(2))
    assert len(shown.media) == 1
    assert shown.messages[0].parts[1].text == (
        "\nQuestion: Which is a metal?\nContext: Think.\nOptions:\n(A) iron\n(B) wood"
    )
    said = [talk.messages[1].parts[0].text for talk in (shown, plain)]
    assert said[0] == "Metals conduct heat. Iron does. The answer is A."
    assert said[1] == "Helium floats. The answer is B."
    for talk, problem, text in ((shown, METAL, said[0]), (plain, GAS, said[1])):
        assert len(talk.messages) == 2
        assert SCORERS["science_qa_lea"].score(text, problem)["score"] == 1
    invoke("scienceqa", "convert", release, "-o", tmp_path / "a", "--form", "QCM-A")
    records = json.loads((tmp_path / "a" / "scienceqa_train.json").read_text())
    assert [one["conversations"][1]["value"] for one in records] == [
        "The answer is A.", "The answer is B.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(b).", "B"),
        ("B. helium", "B"),
        ("Helium floats. The answer is B.", "B"),
        ("The answer is (C)", "C"),
        ("The answer is D.", None),
        ("The answer is A. No, the answer is B.", None),
        ("Bananas", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(answer, letter):
    assert find_science_letter(answer, "ABC") == letter


def know(words):
    if "Two people disagree" in words:
        return "B" if "helium" in words else "A"
    return "B" if "helium" in words else "UNKNOWN"


def test_two_models_answer_together(release, tmp_path):
    rows = [METAL | {"image": "1.png"}, GAS | {"id": 2}, GAS | {"id": 3}]
    write_json(tmp_path / "data" / "scienceqa_lea" / "test.jsonl", rows)
    (tmp_path / "data" / "scienceqa_lea" / "1.png").write_bytes(encoded("red"))
    out = tmp_path / "out"
    invoke("eval", "--tasks", "scienceqa_lea", "--data", tmp_path / "data", "-o", out)
    for rule, decided in (("complement", 0), ("arbitrate", 2)):
        both = tmp_path / rule
        command = ("scienceqa", "ensemble", out, "-o", both, "--rule", rule, "--judge-model", "m")
        with serve(know) as server:
            printed = invoke(*command, "--judge", server.url)
            again = invoke(*command, "--judge", server.url)
        assert f"answered 2 of 3 by itself, and decided {decided}" in printed
        assert ": 0 queries, " in again
        assert "(not all rows)" not in printed
        lines = (both / "scienceqa_lea" / "answers.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        assert [line["text_model"] for line in answers] == [None, "B", "B"]
        assert [line["answer"] for line in answers][1:] == ["B", "B"]
        assert invoke("eval", "--compare", out, both).startswith("scienceqa_lea exact_match: ")
        invoke("report", both, "-o", tmp_path / "page")
        page = (tmp_path / "page" / "report.md").read_text()
        _, _, familys = page.partition("## ScienceQA by subject, context and grade")
        (row,) = [line for line in familys.splitlines() if line.startswith("| tiny + m |")]
        assert "**100.00**" in row
        assert "| LLaVA + GPT-4 (complement) | 90.36 | " in familys


def test_mistakes_are_one_line(release, tmp_path):
    out = tmp_path / "x"
    assert "no split 'dev'; expected train, test" in fail(
        "scienceqa", "convert", release, "-o", out, "--split", "dev"
    )
    assert "--form is 'QCM'" in fail("scienceqa", "convert", release, "-o", out, "--form", "QCM")
    (release / "pid_splits.json").write_text(json.dumps({"train": ["7"]}))
    assert "without 1 problem of train, such as 7" in fail(
        "scienceqa", "convert", release, "-o", out
    )
    assert "no answers in it" in fail(
        "scienceqa", "ensemble", out.parent, "-o", out, "--judge", "m"
    )
