"""The held-out sets: every world has one, and what they ask is what was fixed before training."""

import json
from dataclasses import replace

import pytest

from onevision.errors import InputError
from onevision.eval.heldout import (
    DIGESTS,
    NUM_FIRST,
    READING,
    SCENARIOS,
    WORLDS,
    HeldoutResult,
    digest,
    expand_scenarios,
    first_digest,
    heldout_questions,
    is_as_fixed,
    num_questions,
)
from onevision.synth.families import FAMILIES

FIXED = json.loads(DIGESTS.read_text())
# Families that teach an encoder or a language model, and have no questions about a whole picture
# that another set does not ask.
TEACHERS = {"things", "signs", "plates", "capitals", "glimpses", "lettered", "texts"}
ASKED_BY_SCENARIO = {"scenes", "pairs", "clips", "charts"}


def test_every_world_that_can_be_asked_about_has_a_set():
    assert set(WORLDS) == FAMILIES.keys() - TEACHERS - ASKED_BY_SCENARIO
    assert FIXED.keys() == {*SCENARIOS, *READING, *WORLDS}
    assert all(FIXED[name]["questions"] == num_questions(name) for name in FIXED)
    assert expand_scenarios(["video", "worlds"]) == ["video", *WORLDS]


@pytest.mark.parametrize("name", FIXED)
def test_a_set_asks_what_was_fixed(name):
    assert first_digest(name) == FIXED[name]["first"]


def test_other_questions_are_noticed():
    items = tuple(heldout_questions("pointed", count=NUM_FIRST))
    result = HeldoutResult(scenario="pointed", blind=False, items=items, answers=("",) * len(items))
    assert is_as_fixed(result)
    assert is_as_fixed(replace(result, items=items[:3]))  # too few to tell
    other = replace(items[0], question=replace(items[0].question, answer="7"))
    assert not is_as_fixed(replace(result, items=(other, *items[1:])))
    assert digest([other.question]) != digest([items[0].question])


def test_an_unknown_scenario_is_named():
    with pytest.raises(InputError, match=r"no scenario 'table'; did you mean 'tables'"):
        next(heldout_questions("table"))
