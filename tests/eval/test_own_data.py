"""A user's own records from the door: asked, scored, judged, compared and reported."""

import csv
import json

import pytest

from onevision.eval.scoring.own import OWN
from tests.cli.invoke import fail, invoke
from tests.eval.conftest import encoded
from tests.eval.judge_server import between, serve

ASK = "What colour is the background?"


def record(number, colour, *more):
    turns = [{"from": "human", "value": f"<image>\n{ASK}"}, {"from": "gpt", "value": colour}]
    for question, answer in more:
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"r{number}", "image": f"{number}.png", "conversations": turns}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    for number, colour in enumerate(("white", "black", "red")):
        (root / f"{number}.png").write_bytes(encoded(colour))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEVISION_CACHE", str(root / "cache"))
        patch.chdir(root)
        yield root


def write(root, name, records):
    (root / name).write_text(json.dumps(records))
    return root / name


def samples(directory):
    with (directory / "samples.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_last_answer_of_each_record_is_asked_for(own):
    path = write(own, "my.json", [record(0, "white"), record(1, "black"), record(2, "mauve")])
    printed = invoke("eval", "--data", path, "--model", "tiny")
    assert "my: 3 answers, exact_match 66.67 (95 %: 0 to 100)" in printed
    assert "every answer: eval/my-tiny/my/samples.csv" in printed
    rows = samples(own / "eval" / "my-tiny" / "my")
    assert [row["record"] for row in rows] == ["r2", "r0", "r1"]  # the worst first
    assert rows[1] | {"question": "<image>\n" + ASK, "expected": "white", "score": "1.0"} == rows[1]
    assert invoke("eval", "--data", path, "--model", "tiny") == printed  # nothing is asked again
    invoke("report", "eval/my-tiny", "-o", "page")
    assert "| my.json (my) | **66.7 [0.0, 100.0]** |" in (own / "page" / "report.md").read_text()
    compared = invoke("eval", "--compare", "eval/my-tiny", "eval/my-tiny")
    assert compared.startswith("my exact_match: 66.67 -> 66.67, +0")


def test_each_answer_is_asked_for_after_the_turns_before_it(own):
    path = write(own, "talk.json", [record(0, "white", ("Say 7.", "7"), ("And 8?", "8"))])
    printed = invoke("eval", "--data", path, "--turns", "each", "-o", "each")
    assert "talk: 3 answers" in printed
    lines = [
        json.loads(line) for line in (own / "each/talk/answers.jsonl").read_text().splitlines()
    ]
    assert lines[2]["prompt"] == f"<image>\n{ASK}\nwhite\nSay 7.\n7\nAnd 8?"
    assert [line["item"]["answer"] for line in lines] == ["white", "7", "8"]
    result = json.loads((own / "each" / "talk" / "results.json").read_text())
    assert result["headline"]["num_units"] == 1  # the turns of a record are resampled together
    assert {"within_5_percent", "turn/1", "turn/3"} <= result["metrics"].keys()
    labels = OWN.aggregate([OWN.score("x", {"answer": "x", "turn": n}) for n in (10, 9, 2)])
    assert [name for name in labels if "/" in name] == ["turn/2", "turn/9", "turn/10"]
    assert "its answers are from another run" in fail("eval", "--data", path, "-o", "each")


def test_other_forms_of_data_and_other_scorers(own):
    lines = "".join(json.dumps(one) + "\n" for one in (record(0, "A white wall"), record(1, "x")))
    (own / "lines.jsonl").write_text(lines)
    printed = invoke("eval", "--data", own / "lines.jsonl", "--scorer", "rouge_l", "-o", "rouge")
    assert "lines: 2 answers, rouge_l 0.25 " in printed  # one of three words, and none of one
    (own / "mix.yaml").write_text(
        "datasets:\n- {json_path: lines.jsonl}\n"
        "- {json_path: my.json, sampling_strategy: first:1}\n"
    )
    write(own, "my.json", [record(0, "white")])
    printed = invoke("eval", "--data", own / "mix.yaml", "-o", "mix")
    assert "mix: 3 answers" in printed
    assert "dataset/" in printed


def test_a_damaged_picture_and_a_record_without_an_answer_are_counted(own, capsys):
    (own / "9.png").write_bytes(b"no picture")
    records = [record(0, "white"), record(9, "white"), {"conversations": []}]
    path = write(own, "bad.json", records)
    printed = invoke("eval", "--data", path, "-o", "bad")
    assert "bad: 2 answers, exact_match 50" in printed
    assert "since it could not be asked: 1 row; the first: bad.json" in printed
    assert "9.png" in samples(own / "bad" / "bad")[0]["problem"]
    message = fail("eval", "--data", path, "-o", "strict", "--max-failed", "0")
    assert "left out, since it cannot be asked: 1 record;" in message
    assert not (own / "strict").exists()


def test_own_answers_are_judged_by_an_endpoint_and_by_a_model(own):
    path = write(own, "free.json", [record(0, "white"), record(2, "ruby")])

    def rule(words):
        return "1" if "ruby" in words and "red" in words.lower() else "0"

    with serve(rule) as server:
        printed = invoke("eval", "--data", path, "-o", "free", "--judge", server.url,
                         "--judge-model", "rules")  # fmt: skip
        words = server.requests[0]["messages"][-1]["content"]
    assert ASK in words
    assert "free: 2 answers, accuracy " in printed
    assert "problem" in samples(own / "free" / "free")[0]
    printed = invoke("judge", "free", "--judge", "tiny")
    assert "judge tiny: 2 queries" in printed
    assert "are unreadable" not in printed
    assert between(printed, "accuracy ", " (") in ("0", "50", "100")


def test_mistakes_are_one_line(own):
    assert "no such file or folder" in fail("eval", "--data", "nowhere.json")
    path = write(own, "one.json", [record(0, "white")])
    assert "did you mean 'rouge_l'" in fail("eval", "--data", path, "--scorer", "rouge")
    assert "--turns is 'all'; expected one of last, each" in fail(
        "eval", "--data", path, "--turns", "all"
    )
    assert "no record can be asked" in fail("eval", "--data", write(own, "no.json", [{"a": 1}]))
    assert "no field 'answers'" in fail("eval", "--data", path, "--scorer", "anls")
    assert "--limit has no effect on the held-out questions" in fail("eval", "--limit", "3")
    assert "greedy answers stay the same" in fail("eval", "--data", path, "--repeat", "2")
