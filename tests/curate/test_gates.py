"""Gates: what each marks, in the order in which they are named."""

import json

import pytest

from onevision.curate.gates.blind import agrees, grey_question
from onevision.data.json_source import JsonSource
from onevision.data.records import to_conversation
from onevision.generate.answer import load
from tests.curate.conftest import lines, records, run, write_pictures
from tests.eval.judge_server import serve

TRUTH = "the quick brown fox jumps over the lazy dog while seven grey geese watch it from afar"


def write_records(path, *said, image=None):
    made = []
    for number, (question, answer) in enumerate(said):
        mark, media = (
            ("<image>\n", {"image": image or f"{number}.png"}) if image != "" else ("", {})
        )
        turns = [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
        made.append({"id": str(number), **media, "conversations": turns})
    path.write_text(json.dumps(made, ensure_ascii=False))
    return path


def gate(path, *gates):
    output = path.parent / "kept"
    return run("curate", "gate", path, "-o", output, *(f"--gate={g}" for g in gates)), output


def marked(output):
    return [
        (line["gate"], line["where"].split("row ")[1]) for line in lines(output / "left_out.jsonl")
    ]


def test_each_gate_marks_what_it_looks_for_and_the_rest_is_kept(tmp_path):
    path = write_records(
        tmp_path / "r.json",
        ("What?", "A ring of gold."),
        ("What?", "Ring."),
        ("What?", "一个很大的金色圆环。"),
        ("What?", "A damned ring of gold."),
        ("Who sees " + TRUTH + "?", "A ring of gold, too."),
    )
    (tmp_path / "words.txt").write_text("# rude\nDamned\n")
    write_records(tmp_path / "eval.json", ("Say: " + TRUTH, "yes"))
    found, output = gate(path, "length=3-50", "language=en", f"words={tmp_path / 'words.txt'}",
                         f"leaks={tmp_path / 'eval.json'}")  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert marked(output) == [("length", "1"), ("language", "2"), ("words", "3"), ("leaks", "4")]
    assert [one["id"] for one in records(output)] == ["0"]
    assert "1 of 5 records kept" in found.stdout
    why = [line["why"] for line in lines(output / "left_out.jsonl")]
    assert why == [
        "an answer has 1 words; expected 3 to 50",
        "an answer is zh; expected en",
        "it says 'damned'",
        "it shares 13 words with eval.json, row 0",
    ]


def test_duplicates_within_and_across(tmp_path):
    said = [("What?", "A ring."), ("What?", "a Ring"), ("What?", "A star.")]
    path = write_records(tmp_path / "r.json", *said, image="a.png")
    _, output = gate(path, "duplicates")
    assert marked(output) == [("duplicates", "1")]
    (tmp_path / "other").mkdir()
    other = write_records(tmp_path / "other" / "r.json", said[2], image="a.png")
    gate(path, f"duplicates={other}")
    # The same words about a picture at another path are no duplicate.
    assert marked(output) == [("duplicates", "1")]
    other = write_records(tmp_path / "s.json", said[2], image="a.png")
    gate(path, f"duplicates={other}")
    assert marked(output) == [("duplicates", "1"), ("duplicates", "2")]


def test_what_is_answered_over_a_grey_picture_is_marked(tmp_path):
    """The embedded model says what it answers blind; the gate finds the record that says so."""
    write_pictures(tmp_path, 1)
    question, picture = "What is in the picture?", "pictures/0.png"
    path = write_records(tmp_path / "r.json", (question, "x"), image=picture)
    record = JsonSource([path], name="r", root=tmp_path).read(0)
    blind = load("tiny").ask(grey_question(to_conversation(record)), max_new_tokens=64).text
    write_records(path, (question, blind), (question, "A zebra."), image=picture)
    _, output = gate(path, "blind=tiny")
    assert marked(output) == [("blind", "0")]


def test_a_judge_rates_records_twice(tmp_path):
    write_pictures(tmp_path, 1)
    said = [("What?", "A ring."), ("What?", "A zebra."), ("What?", "A moody star.")]
    path = write_records(tmp_path / "r.json", *said, image="pictures/0.png")
    moods = iter([4, 3])

    def rates(words):
        if "moody" in words:
            return f"Hm.\nRating: {next(moods)}"
        return "It is there.\nRating: 5" if "ring" in words else "No such thing.\nRating: 1"

    with serve(rates, models=["eyes"]) as server:
        more = ("--judge", server.url)
        found = run("curate", "gate", path, "-o", tmp_path / "kept", "--gate", "rating=3.5", *more)
        assert found.returncode == 0, found.stderr
        assert len(server.requests) == 6
        run("curate", "gate", path, "-o", tmp_path / "kept", "--gate", "rating=2", *more)
        assert len(server.requests) == 6  # replies are remembered
        again = run("curate", "gate", path, "-o", tmp_path / "kept", "--gate", "duplicates", *more)
    assert "differ by 0.33 on average and are equal for 2 of 3" in found.stdout
    (line,) = lines(tmp_path / "kept" / "left_out.jsonl")
    assert line["why"] == "rated 1; expected 2 or more"
    assert "--judge has no effect without --gate rating=3" in again.stderr


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [("A cat.", "a cat", True), ("A dog.", "a cat", False), (TRUTH, TRUTH + " again", True),
     ("nothing of that sort at all", TRUTH, False)],
)  # fmt: skip
def test_answers_agree(answer, expected, same):
    assert agrees(answer, expected) is same


def test_unreadable_records_are_left_out_and_named(tmp_path):
    path = tmp_path / "r.jsonl"
    write_records(path, ("What?", "A ring of gold."))
    (good,) = json.loads(path.read_text())
    path.write_text(json.dumps(good) + "\n{bad\n")
    found, output = gate(path, "length=1-9")
    assert found.returncode == 0 and marked(output) == [("unreadable", "1")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("colour=red", "no gate is named 'colour'; expected one of length, language"),
        ("length", "--gate length lacks its value; expected length=20-400"),
        ("length=9-3", "--gate length is '9-3'; expected two numbers"),
        ("rating=3", "--gate rating needs a model that judges; give --judge MODEL or URL"),
        ("rating=7", "--gate rating is '7'; expected 1 to 5, as in rating=3"),
        ("language=fr", "--gate language is 'fr'; expected en or zh"),
        ("words=none.txt", "none.txt: the list of words cannot be read"),
        ("leaks=none.json", "none.json: no such file"),
    ],
)
def test_gates_that_cannot_be_meant(tmp_path, name, said):
    path = write_records(tmp_path / "r.json", ("What?", "A ring."))
    found, output = gate(path, name)
    assert found.returncode == 1 and said in found.stderr and found.stderr.count("\n") == 1
    assert not output.exists()
