"""Shaded solids on a floor, near and far, shiny and matte, with shadows.

+-----------------------+   How many shiny red things are there?          2
|                       |   What shape is the large green thing?          cube
|-----------------------|   What is closest to the viewer?                the blue sphere
|    O      []          |   Are there more cubes, or more spheres?        cubes
|         ( )      O    |   How many things are left of the cylinder?     3
+-----------------------+   What other thing has the colour of the cube?  the red sphere
"""

import random
from collections.abc import Callable

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.synth.kit.questions import ask_twice, picture_sample
from onevision.synth.kit.shapes import Colour, shift_tint
from onevision.synth.kit.words import article, join, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.rooms.shading import draw_solid
from onevision.synth.worlds.rooms.solids import (
    ATTRIBUTES,
    TINTS,
    Room,
    Solid,
    Traits,
    noun_phrase,
    random_room,
    single_out,
)

WALLS: tuple[Colour, ...] = ((205, 208, 212), (190, 200, 210), (214, 206, 192), (198, 208, 196))
FLOORS: tuple[Colour, ...] = ((172, 172, 174), (178, 168, 152), (158, 166, 172), (186, 182, 170))
MAX_THINGS = 8
# The least distance at which one thing counts as left of another, or as behind it.
CLEARLY = 0.07


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th room of a split."""
    rng = rng_for(split, "rooms", index)
    room = random_room(rng, rng.randint(3, MAX_THINGS))
    height = rng.randint(180, 300)
    caption = (
        f"A room with {number_of(len(room), 'thing')} on the floor: "
        f"{join(article(solid.name) for solid in room)}."
    )
    picture = _draw(room, rng, width=round(height * rng.uniform(1.2, 1.5)), height=height)
    asked = ask_twice(QUESTIONS, room, rng)
    return picture_sample(rng, picture, caption=caption, detail=_detail(room, caption), asked=asked)


def _draw(room: Room, rng: random.Random, *, width: int, height: int) -> PillowImage:
    """Draws wall and floor, then the things from the back to the front."""
    canvas = PIL.new("RGB", (width, height), rng.choice(WALLS))
    horizon = round(height * 0.34)
    floor = PIL.new("RGB", (width, height - horizon), rng.choice(FLOORS))
    light = PIL.linear_gradient("L").resize((width, height - horizon), PIL.Resampling.NEAREST)
    canvas.paste(floor, (0, horizon))
    canvas.paste((225, 225, 225), (0, horizon), light.point(lambda v: v // 3))
    for solid in room:
        tint = shift_tint(TINTS[solid.values["colour"]], rng.randint(-10, 10))
        draw_solid(
            canvas,
            solid.values["shape"],
            solid.values["material"],
            tint,
            turn=solid.turn,
            x=solid.x * width,
            bottom=solid.bottom * height,
            side=solid.side * height,
        )
    return canvas


def _detail(room: Room, caption: str) -> str:
    """Describes every thing, and their orders from left to right and from back to front."""
    each = [f"{article(noun_phrase(s.values)).capitalize()}." for s in room]
    across = sorted(room, key=lambda solid: solid.x)
    return " ".join(
        (
            caption,
            *each,
            f"From left to right: {join([noun_phrase(s.values) for s in across])}.",
            f"From back to front: {join([noun_phrase(s.values) for s in room])}.",
        )
    )


def _ask_query(room: Room, rng: random.Random) -> Question | None:
    """Asks for one attribute of a thing that the others single out."""
    key = rng.choice(list(ATTRIBUTES))
    found = single_out(room, rng, without=key)
    if found is None:
        return None
    solid, named = found
    words = {
        "size": (f"What size is {named}?", f"Is {named} large or small?"),
        "material": (f"Is {named} shiny or matte?", f"Does {named} look shiny or matte?"),
        "colour": (f"What colour is {named}?", f"Which colour has {named}?"),
        "shape": (f"What shape is {named}?", f"Which shape has {named}?"),
    }[key]
    return ask(rng, key, words, solid.values[key])


def _some(room: Room, rng: random.Random) -> Traits:
    """Chooses one or two values, mostly those of a thing in the room."""
    keys = rng.sample(list(ATTRIBUTES), rng.randint(1, 2))
    model = rng.choice(room).values
    return {k: model[k] if rng.random() < 0.85 else rng.choice(ATTRIBUTES[k]) for k in keys}


def _ask_count(room: Room, rng: random.Random) -> Question:
    """Asks how many things there are, or how many of a kind."""
    if rng.random() < 0.2:
        words = ("How many things are there?", "How many things stand on the floor?")
        return ask(rng, "count", words, str(len(room)))
    values = _some(room, rng)
    many = noun_phrase(values, many=True)
    words = (f"How many {many} are there?", f"Count the {many}.", f"How many {many} do you see?")
    return ask(rng, "count_some", words, str(sum(s.fits(values) for s in room)))


def _ask_more(room: Room, rng: random.Random) -> Question:
    """Compares two counts."""
    key = rng.choice(list(ATTRIBUTES))
    seen = {solid.values[key] for solid in room}
    a = rng.choice(sorted(seen))
    b = rng.choice([value for value in ATTRIBUTES[key] if value != a])
    a, b = rng.sample((a, b), 2)
    first, second = noun_phrase({key: a}, many=True), noun_phrase({key: b}, many=True)
    counts = [sum(s.values[key] == value for s in room) for value in (a, b)]
    if rng.random() < 0.5 and counts[0] != counts[1]:
        words = (f"Are there more {first} than {second}?",)
        return ask(rng, "more_than", words, yes_or_no(counts[0] > counts[1]))
    answer = "equally many" if counts[0] == counts[1] else (first, second)[counts[1] > counts[0]]
    words = (
        f"Are there more {first}, more {second} or equally many?",
        f"Which are more, {first} or {second}, or are they equally many?",
    )
    return ask(rng, "more", words, answer)


def _ask_beside(room: Room, rng: random.Random) -> Question | None:
    """Counts what is on one side of a thing, if that is clear for everything."""
    found = single_out(room, rng)
    if found is None:
        return None
    solid, named = found
    side, place = rng.choice(PLACES)
    others = [place(other) - place(solid) for other in room if other is not solid]
    if any(abs(gap) < CLEARLY for gap in others):
        return None
    words = (f"How many things are {side} {named}?", f"Count the things {side} {named}.")
    return ask(rng, "beside", words, str(sum(gap < 0 for gap in others)))


def _ask_extreme(room: Room, rng: random.Random) -> Question | None:
    """Asks which thing is farthest to one side."""
    end, place = rng.choice(ENDS)
    ranked = sorted(room, key=place)
    if place(ranked[1]) - place(ranked[0]) < CLEARLY:
        return None
    words = (f"Which thing is {end}?", f"What is {end}?")
    return ask(rng, "extreme", words, ranked[0].name)


def _ask_relation(room: Room, rng: random.Random) -> Question | None:
    """Asks on which side of one thing another one is."""
    found, other = single_out(room, rng), single_out(room, rng)
    if found is None or other is None or found[0] is other[0]:
        return None
    (a, first), (b, second) = found, other
    if abs(a.x - b.x) >= CLEARLY and rng.random() < 0.5:
        words = (f"Is {first} left or right of {second}?",)
        return ask(rng, "side", words, "left" if a.x < b.x else "right")
    if abs(a.bottom - b.bottom) < CLEARLY:
        return None
    words = (f"Is {first} in front of or behind {second}?",)
    return ask(rng, "depth", words, "in front" if a.bottom > b.bottom else "behind")


def _ask_alike(room: Room, rng: random.Random) -> Question | None:
    """Asks for the other things that share a value with one."""
    found, key = single_out(room, rng), rng.choice(list(ATTRIBUTES))
    if found is None:
        return None
    solid, named = found
    others = [s for s in room if s is not solid and s.values[key] == solid.values[key]]
    if len(others) == 1 and others[0].name != solid.name:
        words = (
            f"What other thing has the same {key} as {named}?",
            f"Which thing is of the same {key} as {named}?",
        )
        return ask(rng, "same", words, others[0].name)
    words = (f"How many other things have the same {key} as {named}?",)
    return ask(rng, "count_same", words, str(len(others)))


def _ask_exists(room: Room, rng: random.Random) -> Question:
    """Asks whether there is a thing of some kind."""
    model, wanted = rng.choice(room).values, rng.random() < 0.5
    values = {k: model[k] if wanted else rng.choice(ATTRIBUTES[k]) for k in ATTRIBUTES}
    del values[rng.choice(("size", "material", "colour"))]
    thing = article(noun_phrase(values))
    words = (f"Is there {thing}?", f"Do you see {thing}?")
    return ask(rng, "exists", words, yes_or_no(any(s.fits(values) for s in room)))


PLACES: tuple[tuple[str, Callable[[Solid], float]], ...] = (
    ("left of", lambda s: s.x),
    ("right of", lambda s: -s.x),
    ("behind", lambda s: s.bottom),
    ("in front of", lambda s: -s.bottom),
)
ENDS: tuple[tuple[str, Callable[[Solid], float]], ...] = (
    ("farthest to the left", lambda s: s.x),
    ("farthest to the right", lambda s: -s.x),
    ("farthest to the back", lambda s: s.bottom),
    ("closest to the viewer", lambda s: -s.bottom),
)
QUESTIONS: tuple[Callable[[Room, random.Random], Question | None], ...] = (
    _ask_query,
    _ask_query,
    _ask_count,
    _ask_more,
    _ask_beside,
    _ask_extreme,
    _ask_relation,
    _ask_alike,
    _ask_exists,
)
