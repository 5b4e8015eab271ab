"""What scenes tell in short facts: all of it, once, and nothing that is not so."""

import hashlib
import json
import random

import pytest

from onevision.synth.kit.scene import place_name, random_scene
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes

PLACES = {place_name(col, row) for col in range(3) for row in range(3)}
KINDS = {
    "place": PLACES,
    "colour": set(COLOURS),
    "shape": set(SHAPES),
    "size": {"small", "large"},
}


def properties(fact):
    """Return what a fact says as (kind, value), in its order."""
    said, words = [], fact.split()
    while words:
        two = " ".join(words[:2])
        value = two if two in PLACES and len(words) > 1 else words[0]
        said.append(next((kind, value) for kind, values in KINDS.items() if value in values))
        words = words[len(value.split()) :]
    return said


def holds_of(said, scene):
    """Return the things of which all that is said is true."""
    return [t for t in scene.things if all(getattr(t, kind) == value for kind, value in said)]


def told(seed):
    """Return a scene and what is said of it, fact by fact."""
    rng = random.Random(seed)
    scene = random_scene(rng, num_things=rng.randint(1, scenes.MAX_THINGS))
    text = scenes.facts(scene, rng)
    assert text.startswith("Facts: ")
    assert text.endswith(".")
    return scene, [properties(fact) for fact in text[len("Facts: ") : -1].split(", ")]


def test_properties_are_read_as_they_are_written():
    assert properties("top left red ring") == [
        ("place", "top left"), ("colour", "red"), ("shape", "ring"),
    ]  # fmt: skip
    assert properties("star brown") == [("shape", "star"), ("colour", "brown")]
    assert properties("red ring left") == [("colour", "red"), ("shape", "ring"), ("place", "left")]


def test_every_fact_is_true_of_one_thing_and_each_thing_is_told_of_once():
    ways = set()
    for seed in range(500):
        scene, facts = told(seed)
        subjects = []
        for said in facts:
            (thing,) = holds_of(said, scene)
            subjects.append(scene.things.index(thing))
            ways.add(tuple(kind for kind, _ in said))
        assert sorted(subjects) == list(range(len(scene.things)))
    assert ways == {
        ("place", "colour", "shape"),
        ("shape", "colour"),
        ("colour", "shape"),
        ("colour", "shape", "place"),
        ("colour", "shape", "size"),
    }


def test_what_a_fact_begins_with_singles_its_thing_out():
    for seed in range(500):
        scene, facts = told(seed)
        for said in facts:
            begins = said[:2] if len(said) == 3 and said[0][0] == "colour" else said[:1]
            assert len(holds_of(begins, scene)) == 1


@pytest.mark.parametrize(
    ("family", "digest"), [(scenes, "fe8053eb66db42cf"), (pairs, "83c69735f691e784")]
)
def test_facts_leave_the_heldout_questions_as_they_were(family, digest):
    """The digests were taken before there were facts."""
    asked = [
        [question.family, question.question, question.answer]
        for index in range(60)
        for question in family.make("heldout", index).questions
    ]
    assert hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16] == digest
