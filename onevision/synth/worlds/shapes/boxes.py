"""Scenes whose things are asked for by boxes and points, and told apart by them.

+-----------------------+   Where is the red star? Give its box.   [0.71, 0.09, 0.96, 0.34]
|                  ★    |   Point to the blue circle.              [0.25, 0.62]
|                       |   What is in the box [...]?              red star
|    ●            ■     |   What is at the point [...]?            blue circle
+-----------------------+

A box is [left, top, right, bottom], a point [x, y], as shares of the picture: boxes.py.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image as PIL
from PIL import ImageDraw

from onevision.boxes import Box, Point, write_mark
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.scene import SUPERSAMPLING, Thing, draw_scene, random_scene
from onevision.synth.kit.shapes import draw_shape
from onevision.synth.sample import Question, Sample, Split, rng_for
from onevision.synth.worlds.shapes.scenes import describe, random_size


@dataclass(frozen=True, kw_only=True)
class PlacedThing:
    """A thing and the box that it fills."""

    thing: Thing
    box: Box


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th picture of a split."""
    rng = rng_for(split, "boxes", index)
    num_things, distinct = rng.randint(2, 5), rng.random() < 0.5
    scene = random_scene(rng, num_things=num_things, distinct=distinct)
    while not scene.unique():  # nothing could be asked for by its name
        scene = random_scene(rng, num_things=num_things, distinct=distinct)
    width, height = random_size(rng)
    placed = [
        PlacedThing(thing=thing, box=find_box(thing, width=width, height=height))
        for thing in scene.unique()
    ]
    where = " ".join(f"The {one.thing.name} is in {write_mark(one.box)}." for one in placed)
    return picture_sample(
        rng,
        draw_scene(scene, width=width, height=height),
        caption=describe(scene),
        detail=f"{describe(scene)} {where}",
        asked=_questions(placed, rng),
    )


def find_box(thing: Thing, *, width: int, height: int) -> Box:
    """Returns the smallest box around a thing in a picture of so many pixels."""
    scale = SUPERSAMPLING
    mask = PIL.new("L", (width * scale, height * scale), 0)
    centre = (thing.x * mask.width, thing.y * mask.height)
    radius = thing.radius * min(width, height) * scale
    draw_shape(ImageDraw.Draw(mask), thing.shape, centre, radius, fill=255, ground=0)
    edges = mask.getbbox()
    assert edges is not None, "a thing is in its picture"
    left, top, right, bottom = edges
    return Box(
        left=left / mask.width,
        top=top / mask.height,
        right=right / mask.width,
        bottom=bottom / mask.height,
    )


def _questions(placed: list[PlacedThing], rng: random.Random) -> Iterator[Question]:
    for one in placed:
        name, box = one.thing.name, one.box
        words = f"Where is the {name}? Give its box."
        yield Question(family="box", question=words, answer=write_mark(box), box=box)
        yield Question(
            family="point",
            question=f"Point to the {name}.",
            answer=write_mark(box.centre),
            box=box,
        )
        if rng.random() < 0.5:
            asked, family = f"What is in the box {write_mark(box)}?", "in_box"
        else:
            asked, family = f"What is at the point {write_mark(_inside(box, rng))}?", "at_point"
        yield Question(family=family, question=asked, answer=name)


def _inside(box: Box, rng: random.Random) -> Point:
    """Returns a point near the middle of a box."""
    width, height = box.right - box.left, box.bottom - box.top
    return Point(
        x=box.centre.x + rng.uniform(-0.15, 0.15) * width,
        y=box.centre.y + rng.uniform(-0.15, 0.15) * height,
    )
