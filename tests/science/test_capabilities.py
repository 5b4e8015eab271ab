"""Exams of capabilities: what is asked was never trained on, and baselines by hand."""

import pytest

from onevision.science.capabilities.arms import count_rows
from onevision.science.capabilities.capability import CAPABILITIES
from onevision.science.capabilities.exam import EXAMS, HELD_OUT, _find_sample
from onevision.science.capabilities.results import summarise
from onevision.science.claims import FAILS, HOLDS, OPEN
from onevision.synth.families import FAMILIES
from onevision.synth.kit.splits import content_of, split_of

NUM_ASKED, NUM_TRAINED = 12, 60
S1 = CAPABILITIES["S1"]


def line(index, family, expected, *, right, blind=0.0):
    return {
        "probe": "S1", "level": "held out", "index": index, "family": family, "question": "?",
        "expected": expected, "answer": expected if right else "x", "score": float(right),
        "blind": blind, "tokens": 1, "seconds": 0.0, "row": index,
    }  # fmt: skip


@pytest.mark.parametrize("name", CAPABILITIES)
def test_what_is_asked_cannot_have_been_trained_on(name):
    one = CAPABILITIES[name]
    asked = {content_of(_find_sample(one, seed=0, index=n)[0]) for n in range(NUM_ASKED)}
    assert {split_of(content) for content in asked} == {"heldout"}
    trained = {content_of(FAMILIES[one.world]("train", n)) for n in range(NUM_TRAINED)}
    assert {split_of(content) for content in trained} == {"train"}
    assert not asked & trained


@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_question_is_the_same_again_and_has_one_answer(name):
    one, make = CAPABILITIES[name], EXAMS[name].make
    kinds = set()
    asked: dict[int, list[str]] = {0: [], 1: []}
    for index in range(NUM_ASKED):
        item, again = make(HELD_OUT, 0, index), make(HELD_OUT, 0, index)
        assert (item.question, item.expected) == (again.question, again.expected)
        assert item.score(f"{item.expected}.") == 1
        assert item.score("something else") == 0
        assert not one.questions or item.family in one.questions
        for article in ("The", "a", "an"):
            assert item.score(f"{article} {item.expected}.") == 1
        assert not item.question.startswith(one.ambiguous)
        kinds.add(item.family)
        for seed, questions in asked.items():
            questions.append(make(HELD_OUT, seed, index).question)
    assert len(kinds) > 2
    assert asked[0] != asked[1]


@pytest.mark.parametrize("name", CAPABILITIES)
def test_listed_questions_are_kinds_that_the_world_asks(name):
    one = CAPABILITIES[name]
    asked = {q.family for n in range(80) for q in FAMILIES[one.world]("train", n).questions}
    assert set(one.questions) <= asked


def test_baselines_and_gain_by_hand():
    """Colours: red, red, blue; numbers: 2. Right: three of four; blind: one; constant: three."""
    lines = [
        line(0, "colour", "red", right=True),
        line(1, "colour", "red", right=True, blind=1.0),
        line(2, "colour", "blue", right=True),
        line(3, "count", "2", right=False),
    ]
    result = summarise(S1, lines)
    assert (result.right.value, result.blind.value, result.constant.value) == (0.75, 0.25, 0.75)
    assert result.gain.value == 0  # 3 right, and 3 by a constant
    assert result.verdict == OPEN
    assert [one["index"] for one in result.examples()] == [0, 1, 3, 2]
    rows = {row.family: row for row in count_rows(S1, lines)}
    colour = rows["colour"]
    assert (colour.asked, colour.right, colour.blind, colour.constant) == (3, 3, 1, 2)
    assert (rows["count"].right, rows["count"].constant) == (0, 1)


def test_verdicts():
    names = [f"n{n}" for n in range(40)]
    right = [line(n, "name", name, right=True) for n, name in enumerate(names)]
    assert summarise(S1, right).verdict == HOLDS
    assert summarise(S1, right).gain.value == pytest.approx(39 / 40)
    wrong = [line(n, "same", "yes", right=False) for n in range(40)]
    assert summarise(S1, wrong).verdict == FAILS


def test_the_paper_has_nine():
    assert list(CAPABILITIES) == [f"S{n}" for n in range(1, 10)]
    assert len({one.world for one in CAPABILITIES.values()}) == 9
