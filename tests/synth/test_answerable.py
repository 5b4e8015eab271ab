"""Questions have one answer: an oracle per family derives it again from what there is to see."""

import re
from dataclasses import replace

import pytest
from PIL import ImageChops

from onevision.synth.kit.fonts import LEARNED
from onevision.synth.kit.scene import Scene, Thing, draw_scene, place_name
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.sample import rng_for
from onevision.synth.worlds.clips import pointed
from onevision.synth.worlds.lettering import lettered
from onevision.synth.worlds.shapes import marks
from tests.synth.conftest import has_face

NUM_SAMPLES = 300
SIDES = {"top", "bottom", "left", "right"}
MARK = re.compile(r"Mark (\w+) is on the \w+ (\w+) (\w+) at the ([a-z ]+)\.")


def test_marks_at_a_place():
    """A place as people read it: "at the top" holds for a whole row, "at the top left" for one."""
    asked = 0
    for index in range(NUM_SAMPLES):
        sample = marks.make("train", index)
        places = {mark: place for mark, _, _, place in MARK.findall(sample.detail)}
        for question in sample.questions:
            if question.family == "where":
                mark = re.search(r"mark (\w+)", question.question)[1]
                assert question.answer == places[mark]
            if question.family == "at":
                place = re.search(r"at the ([a-z ]+)\?", question.question)[1]
                fitting = [
                    mark for mark, own in places.items()
                    if own == place or (place in SIDES and place in own.split())
                ]  # fmt: skip
                assert fitting == [question.answer], question
                asked += 1
    assert asked > 20


def test_where_a_pointed_thing_ends():
    """The question names the thirds that it means, so that nine places cannot be meant."""
    asked = 0
    for index in range(NUM_SAMPLES):
        sample = pointed.make("train", index)
        clip = pointed.random_clip(rng_for("train", "pointed", index))
        if pointed._describe(clip) not in sample.detail:
            continue  # what is held out was drawn again
        for question in sample.questions:
            if question.family == "end":
                thirds = (
                    ("left", "center", "right") if clip.is_wide else ("top", "center", "bottom")
                )
                named = [w for w in re.findall(r"[a-z]+", question.question)
                         if w in {*SIDES, "center"}]  # fmt: skip
                assert tuple(named) == thirds
                end = clip.target.at(1)
                assert question.answer == thirds[0 if end < 1 / 3 else 1 if end < 2 / 3 else 2]
                asked += 1
    assert asked > 20


@pytest.mark.skipif(not all(map(has_face, LEARNED)), reason="a typeface is missing")
def test_captions_say_where_writing_is():
    for index in range(NUM_SAMPLES):
        sample = lettered.make("train", index)
        letters = [r for r in sample.regions if len(r.name) == 1]
        width, height = sample.media[0].source.size
        x = (letters[0].left + letters[-1].right) / 2 / width
        y = (min(r.top for r in letters) + max(r.bottom for r in letters)) / 2 / height
        place = place_name(min(2, int(3 * x)), min(2, int(3 * y)))
        assert sample.caption.endswith(f" at the {place}."), (sample.caption, x, y)


def thing(shape, *, x, radius=0.15):
    tint = COLOURS["red" if shape == "ring" else "blue"]
    return Thing(
        colour="red" if shape == "ring" else "blue", shape=shape, size="large", col=1, row=1,
        x=x, y=0.5, radius=radius, tint=tint,
    )  # fmt: skip


@pytest.mark.parametrize("other", ["circle", "square", "star", "ring"])
def test_what_is_behind_a_ring_is_seen_through_its_hole(other):
    """A thing that crosses the hole of a ring stays countable; elsewhere no pixel changes."""
    behind = replace(thing(other, x=0.5, radius=0.1), colour="blue", tint=COLOURS["blue"])
    scene = Scene(ground="white", things=(behind, thing("ring", x=0.5)))
    seen = draw_scene(scene, width=98, height=98)
    colours = {colour for _, colour in seen.getcolors(9999)}
    assert {COLOURS["red"], COLOURS["blue"]} <= colours
    apart = Scene(ground="white", things=(replace(behind, x=0.15), thing("ring", x=0.75)))
    alone = [draw_scene(Scene(ground="white", things=(one,))) for one in apart.things]
    assert ImageChops.darker(*alone).tobytes() == draw_scene(apart).tobytes()
