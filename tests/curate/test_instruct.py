"""Captions and boxes -> instruction data, and the rules that replies must keep."""

import hashlib
import json

import pytest

from onevision.curate.instruct import check_turns, split_turns
from onevision.curate.prompt_files import PROMPTS, read_prompt
from onevision.curate.rules import count_words, find_fault, is_indefinite
from onevision.curate.task import Turn
from tests.curate.conftest import FAULTS, good, lines, records, run, write_pictures
from tests.eval.judge_server import serve


def instruct(captions, output, server, *more):
    return run("curate", "instruct", captions, "-o", output, "--writer", server.url, *more)


def test_captions_become_records_that_check_passes(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 3), tmp_path / "out"
    found = instruct(captions, output, writer)
    assert (found.returncode, found.stderr) == (0, "")
    assert "9 records: " in found.stdout
    checked = run("data", "check", output / "mixture.yaml", "--deep")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "9 samples, nothing to fix" in checked.stdout
    made = records(output)
    assert [one["id"].split("-")[0] for one in made[:3]] == ["conversation", "detail", "reasoning"]
    assert made[0]["image"] == "pictures/0.png"
    assert made[0]["conversations"][0] == {"from": "human", "value": "<image>\nWhat is shown?"}
    assert len(made[0]["conversations"]) == 4
    phrasings = read_prompt(PROMPTS / "instruct" / "detail.yaml").content.phrasings
    assert made[1]["conversations"][0]["value"].removeprefix("<image>\n") in phrasings


def test_the_writer_reads_captions_and_boxes_after_the_examples(tmp_path, writer):
    captions = write_pictures(tmp_path, 1)
    instruct(captions, tmp_path / "out", writer, "--kinds", "conversation")
    (sent,) = writer.requests
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    (known,) = lines(captions)
    told = sent["messages"][-1]["content"].splitlines()
    assert told[: len(known["captions"])] == known["captions"]
    assert told[-1] == "background: [0.000, 0.000, 1.000, 1.000]"


def test_provenance_says_where_each_record_comes_from(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 1), tmp_path / "out"
    instruct(captions, output, writer, "--kinds", "detail", "--seed", 5,
             "--writer-prices", "1,2")  # fmt: skip
    (line,) = lines(output / "provenance.jsonl")
    picture = (tmp_path / "pictures" / "0.png").read_bytes()
    prompt = (PROMPTS / "instruct" / "detail.yaml").read_bytes()
    assert line["sha256"] == hashlib.sha256(picture).hexdigest()
    assert line["prompt_sha256"] == hashlib.sha256(prompt).hexdigest()
    assert (line["writer"], line["seed"], line["where"]) == ("rules", 5, "captions.jsonl, row 0")
    assert (line["outcome"], line["record"]) == ("kept", records(output)[0]["id"])
    (reply,) = line["replies"]
    assert reply["text"] == good(writer.requests[0])
    assert reply["seed"] == writer.requests[0]["seed"]
    tokens = reply["prompt_tokens"], reply["completion_tokens"]
    assert reply["money"] == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_reply_that_breaks_a_rule_is_asked_for_once_more(tmp_path, fault):
    replies = [FAULTS[fault]]

    def writes(body):
        return replies.pop() if replies else (good(body), "stop")

    captions, output = write_pictures(tmp_path, 1), tmp_path / "out"
    with serve(str, models=["rules"], writes=writes) as server:
        instruct(captions, output, server, "--kinds", "conversation")
    assert len(server.requests) == 2 and len(records(output)) == 1
    assert len({sent["seed"] for sent in server.requests}) == 2
    assert json.loads((output / "summary.json").read_text())["num_asked_again"] == 1


def test_a_second_broken_rule_is_the_end(tmp_path):
    captions, output = write_pictures(tmp_path, 1), tmp_path / "out"
    with serve(str, models=["rules"], writes=lambda body: FAULTS["refusal"]) as server:
        found = instruct(captions, output, server)
    assert len(server.requests) == 6 and records(output) == []
    assert "conversation: refusal: 1" in found.stdout
    assert found.returncode == 0


def test_cocos_files_are_read_as_they_are(tmp_path, writer):
    write_pictures(tmp_path, 2)
    images = [{"id": 7, "file_name": "0.png", "width": 200, "height": 100},
              {"id": 9, "file_name": "1.png", "width": 50, "height": 50}]  # fmt: skip
    said = [{"image_id": 7, "id": 1, "caption": "A dog."},
            {"image_id": 9, "id": 2, "caption": "A cat."},
            {"image_id": 7, "id": 3, "caption": "It runs. "}]  # fmt: skip
    boxes = [{"image_id": 7, "category_id": 18, "bbox": [20, 10, 100, 50]}]
    captions, instances = tmp_path / "captions_val.json", tmp_path / "instances_val.json"
    captions.write_text(json.dumps({"info": {}, "images": images, "annotations": said}))
    instances.write_text(json.dumps(
        {"images": images, "annotations": boxes, "categories": [{"id": 18, "name": "dog"}]}
    ))  # fmt: skip
    found = instruct(captions, tmp_path / "out", writer, "--instances", instances,
                     "--root", tmp_path / "pictures", "--kinds", "detail",
                     "--parallel", 1)  # fmt: skip
    assert found.returncode == 0, found.stderr
    told = [sent["messages"][-1]["content"] for sent in writer.requests]
    assert told == ["A dog.\nIt runs.\ndog: [0.100, 0.100, 0.600, 0.600]", "A cat."]


def test_bad_records_and_pictures_are_refused_by_name_and_the_rest_is_made(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 6), tmp_path / "out"
    told = captions.read_text().splitlines()
    told[0] = '{"image": "pictures/0.png", "captions": ["A ri'
    told[1] = '{"image": "pictures/1.png", "captions": 3}'
    told[2] = '{"image": "pictures/2.png", "captions": ["A."], "boxes": [{"class": "a", "box": 1}]}'
    told.append(told[5])
    captions.write_text("\n".join(told) + "\n")
    (tmp_path / "pictures" / "3.png").unlink()
    (tmp_path / "pictures" / "4.png").write_bytes(b"not a picture")
    found = instruct(captions, output, writer, "--kinds", "detail")
    assert found.returncode == 0 and len(records(output)) == len(writer.requests) == 1
    assert "unreadable record: 3; the first: captions.jsonl, row 0: " in found.stdout
    assert "picture missing: 1; the first: " in found.stdout
    assert "repeated input: 1\n" in found.stdout
    reasons = [line.get("reason") for line in lines(output / "provenance.jsonl")]
    assert reasons == ["unreadable record"] * 3 + ["picture missing", "damaged picture", None,
                                                   "repeated input"]  # fmt: skip
    details = [line.get("detail", "") for line in lines(output / "provenance.jsonl")]
    assert "row 0" in details[0] and "not JSON" in details[0]
    assert "row 1, field 'captions': it is int '3'; expected a list" in details[1]


def test_prompts_of_ones_own(tmp_path, writer):
    own = tmp_path / "prompts"
    own.mkdir()
    (own / "detail.yaml").write_text(
        "system: Write one coherent description.\ntemperature: 0\nmax_tokens: 99\n"
        "phrasings: [Describe.]\n"
    )
    captions, output = write_pictures(tmp_path, 1), tmp_path / "out"
    instruct(captions, output, writer, "--kinds", "detail", "--prompts", own)
    assert records(output)[0]["conversations"][0]["value"] == "<image>\nDescribe."
    assert writer.requests[0]["max_tokens"] == 99
    found = instruct(captions, output, writer, "--kinds", "reasoning", "--prompts", own)
    assert "reasoning.yaml: the prompt cannot be read (No such file" in found.stderr
    assert found.returncode == 1 and found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "known", "fault"),
    [
        ("A ring lies on the left.", "", None),
        ("", "", "empty"),
        ("A ring lies on the", "", "cut off"),
        ("As an AI model I see nothing.", "", "refusal"),
        ("I'm unable to see it.", "", "refusal"),
        ("The caption names a ring.", "", "mentions its sources"),
        ("The bounding box is large.", "", "mentions its sources"),
        ("A box stands there.", "", "mentions its sources"),
        ("A box stands there.", "a cat in a Box", None),
        ("It is at [0.12, 0.3].", "", "mentions its sources"),
        ("图中有一只猫。", "", None),
        ("抱歉,我看不到。", "", "refusal"),
    ],
)
def test_rules_of_a_whole_reply(text, known, fault):
    assert find_fault(text, finish_reason="stop", known=[known]) == fault


def test_a_reply_at_the_token_limit_is_cut_off():
    assert find_fault("It ends well.", finish_reason="length", known=[]) == "cut off"


@pytest.mark.parametrize(
    ("answer", "certain", "expected"),
    [
        ("It is red.", True, False),
        ("It cannot be determined.", False, True),
        ("It is not clear who that is.", False, True),
        ("This isn't specified.", False, True),
        ("It may be a dog.", True, True),
        ("It may be a dog.", False, False),
        ("无法确定。", True, True),
    ],
)
def test_questions_without_a_definite_answer(answer, certain, expected):
    assert is_indefinite("What is it?", answer, certain=certain) is expected


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Q: a?\nA: b.", [("a?", "b.")]),
        ("Question: a?\nAnswer: b\nand c.\n\nq: d?\na: e.", [("a?", "b\nand c."), ("d?", "e.")]),
        ("Sure!\nQ: a?\nA: b.", []),
        ("Q: a?\nQ: b?\nA: c.", []),
        ("A: b.\nQ: a?", []),
        ("Q: a?", []),
        ("", []),
    ],
)
def test_turns_of_a_reply(text, turns):
    assert split_turns(text) == tuple(Turn(question=q, answer=a) for q, a in turns)


@pytest.mark.parametrize(
    ("turns", "kind", "fault"),
    [
        ([("a?", "b."), ("c?", "d.")], "conversation", None),
        ([("a?", "b.")], "conversation", "too few turns"),
        ([("a?", "b."), ("A?", "d.")], "conversation", "repeated question"),
        ([("a?", "b."), ("c?", "")], "conversation", "empty turn"),
        ([("a?", "b."), ("c?", "d.")], "reasoning", "too many turns"),
        ([("a?", "b.")], "reasoning", None),
        ([], "reasoning", "no questions and answers"),
    ],
)
def test_rules_of_turns(turns, kind, fault):
    said = [Turn(question=q, answer=a) for q, a in turns]
    assert check_turns(said, kind, min_words=1) == fault
    if fault is None:
        assert check_turns(said, kind, min_words=2) == "too short"


def test_words_are_counted_in_both_languages():
    assert count_words("A red ring, twice.") == 4
    assert count_words("两只红色的猫 and 1 dog") == 6 + 3


def test_detail_has_sixteen_phrasings_and_examples_keep_the_rules():
    for kind in ("conversation", "detail", "reasoning"):
        prompt = read_prompt(PROMPTS / "instruct" / f"{kind}.yaml").content
        assert prompt.examples
        for example in prompt.examples:
            known = [example.context]
            assert find_fault(example.reply, finish_reason="stop", known=known) is None
            if kind != "detail":
                turns = split_turns(example.reply)
                assert check_turns(turns, kind, min_words=prompt.min_words) is None
    phrasings = read_prompt(PROMPTS / "instruct" / "detail.yaml").content.phrasings
    assert len(set(phrasings)) == 16
    for phrasing in phrasings:  # "I cannot see this image" asks for what is there
        turns = (Turn(question=phrasing, answer="A red ring lies on a lawn."),)
        assert check_turns(turns, "detail", min_words=1) is None
    unknown = (Turn(question=phrasings[0], answer="It is not clear what it shows."),)
    assert check_turns(unknown, "detail", min_words=1) == "indefinite question"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"info": {}, "images": []}, "no 'annotations'; expected one of COCO's annotation files"),
        (
            {"info": {}, "images": [{"id": 1}], "annotations": []},
            "records are not COCO's (KeyError",
        ),
        ({"info": {}, "images": [], "annotations": [{"bbox": []}]}, "an annotation has no caption"),
    ],
)
def test_a_file_that_is_not_cocos_captions(tmp_path, writer, content, said):
    (tmp_path / "c.json").write_text(json.dumps(content))
    found = instruct(tmp_path / "c.json", tmp_path / "out", writer)
    assert found.returncode == 1 and said in found.stderr and found.stderr.count("\n") == 1
