"""Questions that stand apart: they share their media and do not see each other."""

import json
from dataclasses import replace

import pytest
import torch

from onevision.conversation import Conversation, Image, Message, Text
from onevision.data.packing import PackedRow, collate
from onevision.data.planner import make_plan
from onevision.data.styles import join_turns, split_turns
from onevision.errors import DataError
from onevision.model.llava import LlavaNetwork
from onevision.train.loss import weighted_loss
from tests.conftest import randomise

TURNS = [
    ("<image>\n<image>\nWhat is first?", "a ring"),
    ("Which is red?", "the second one"),
    ("How many?", "2"),
]


def write(folder, picture, *, turns=TURNS, how="apart", **more):
    """Writes a record about two pictures; returns the mixture's path."""
    names = ["a.png", "b.png"]
    for number, name in enumerate(names):
        picture(40 + number, 50, seed=number).save(folder / name)
    talk = [
        {"from": who, "value": text}
        for turn in turns
        for who, text in zip(("human", "gpt"), turn, strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps([{"image": names, "conversations": talk} | more]))
    (folder / "m.yaml").write_text(f"datasets: [{{json_path: rows.json, turns: {how}}}]")
    return folder / "m.yaml"


def losses(network, row: PackedRow, config):
    batch = collate([row], config.inputs)
    with torch.no_grad():
        return weighted_loss(network, batch, torch.ones(len(batch.targets)))[1]


def test_each_question_costs_what_it_costs_alone(tmp_path, picture, make_reader, micro_config):
    def strict(path):  # the reference's rule also labels the prefix, which is there once
        return replace(make_reader(path), label_rule="strict")

    together = strict(write(tmp_path, picture)).decode(0, 0)
    alone = []
    for number, (question, answer) in enumerate(TURNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        marks = "" if question.startswith("<image>") else "<image>\n<image>\n"
        path = write(folder, picture, turns=[(marks + question, answer)], how="joined")
        alone.append(strict(path).decode(0, 0))
    network = randomise(LlavaNetwork(micro_config)).eval()
    each = torch.cat([losses(network, row, micro_config) for row in alone])
    torch.testing.assert_close(losses(network, together, micro_config), each)
    assert len(together) < sum(map(len, alone))
    joined = strict(write(tmp_path, picture, how="joined")).decode(0, 0)
    assert not torch.allclose(losses(network, joined, micro_config)[-3:], each[-3:], rtol=1e-3)


def test_planned_lengths_are_those_of_what_is_learned(tmp_path, picture, make_reader):
    reader = make_reader(write(tmp_path, picture))
    whole = len(reader.decode(0, 0))
    assert make_plan(reader).datasets[0].num_tokens.tolist() == [whole]
    shorter = make_reader(tmp_path / "m.yaml", max_tokens=whole - 1)
    fitted = shorter.fit(0, 0)
    assert (len(fitted.branches), fitted.reductions) == (1, ("turns",))
    assert fitted.num_cut == whole - len(shorter.decode(0, 0))
    assert [m.parts[-1].text.strip() for m in fitted.conversation.messages][-2:] == [
        "Which is red?",
        "the second one",
    ]
    assert make_plan(shorter).datasets[0].num_cut.tolist() == [fitted.num_cut]


def test_turns_that_cannot_stand_apart_are_refused():
    def talk(*contents, learned=True):
        roles = ["user", "assistant"] * len(contents)
        return Conversation([
            Message(role, content, learned=learned or role == "user")
            for role, content in zip(roles, contents, strict=False)
        ])  # fmt: skip

    picture = Image(b"a")
    for conversation, problem in (
        (talk([Text("See "), picture], "a"), "words of the first question precede its media"),
        (talk([picture, Text("?")], "a", [picture], "b"), "media follow the first question"),
        (talk([picture, Text("?")], "a", learned=False), "no answer is learned"),
    ):
        with pytest.raises(DataError, match=problem):
            split_turns(conversation)
    words = talk("One?", "1", "Two?", "2")
    assert [one.messages[0].parts[0].text for one in split_turns(words)] == ["One?", "Two?"]
    assert join_turns(split_turns(words)) == words


def test_an_answer_that_is_not_learned_is_left_out(tmp_path, picture, make_reader):
    path = write(tmp_path, picture)
    rows = json.loads((tmp_path / "rows.json").read_text())
    rows[0]["conversations"][3]["loss"] = False
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    fitted = make_reader(path).fit(0, 0)
    assert len(fitted.branches) == 1
    assert fitted.conversation.messages[-2].parts[0].text == "How many?"


def test_another_word_for_turns_is_refused(tmp_path, picture, make_reader):
    with pytest.raises(DataError, match=r"turns.*'alone'; expected one of joined, apart"):
        make_reader(write(tmp_path, picture, how="alone"))
