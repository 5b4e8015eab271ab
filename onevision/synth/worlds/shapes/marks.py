"""Scenes whose things carry numbers or letters, and are asked about by these marks.

+-----------------------+   What is mark 3?                        red star
|  (2)▲         (3)★    |   Which mark is on the blue triangle?    2
|        (5)●           |   Which marks are on red things?         3 and 1
|                 (1)■  |   Which mark is directly right of mark 2? 3
|   ▲                   |   Which thing has no mark?               green triangle
+-----------------------+
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.questions import ask_twice, picture_sample
from onevision.synth.kit.scene import Scene, Thing, draw_scene, random_scene
from onevision.synth.kit.shapes import COLOURS, SHAPES, Colour
from onevision.synth.kit.splits import is_leaked
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import join, number_of, plural, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
BADGES: tuple[tuple[Colour, Colour], ...] = (
    ((0, 0, 0), (255, 255, 255)),
    ((255, 255, 255), (0, 0, 0)),
    ((20, 20, 60), (255, 255, 120)),
    ((255, 255, 200), (120, 0, 0)),
)

# The colour of boxes around things, by the ground of the scene.
LINES: dict[str, Colour] = {"white": (25,) * 3, "grey": (25,) * 3, "black": (235,) * 3}


@dataclass(frozen=True, kw_only=True)
class MarkedScene:
    """A scene, its marked things by their marks, and those without."""

    scene: Scene
    marks: dict[str, Thing]
    unmarked: tuple[Thing, ...]

    def on(self, *, colour: str | None = None, shape: str | None = None) -> list[str]:
        """Returns the marks on the things of a colour, a shape or both."""
        chosen = self.scene.having(colour=colour, shape=shape)
        return [mark for mark, thing in self.marks.items() if thing in chosen]


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th marked picture of a split."""
    rng = rng_for(split, "marks", index)
    marked = _random_marked(rng)
    while is_leaked(split, _describe(marked)):
        marked = _random_marked(rng)
    picture, asked, caption = (
        _draw(marked, rng),
        ask_twice(QUESTIONS, marked, rng),
        _caption(marked),
    )
    return picture_sample(
        rng, picture, caption=caption, detail=f"{caption} {_describe(marked)}", asked=asked
    )


def _random_marked(rng: random.Random) -> MarkedScene:
    """Generates a scene, and marks all of its things or all but one."""
    scene = random_scene(rng, num_things=rng.randint(3, 9))
    left_out = 1 if len(scene.things) > 3 and rng.random() < 0.4 else 0
    unmarked = tuple(rng.sample(scene.things, left_out))
    things = [t for t in scene.things if t not in unmarked]
    marks = dict(zip(_names(rng, len(things)), things, strict=True))
    return MarkedScene(scene=scene, marks=marks, unmarked=unmarked)


def _names(rng: random.Random, count: int) -> list[str]:
    """Chooses marks: the numbers from 1 on, any numbers, or letters, in random order."""
    kind = rng.random()
    if kind < 0.5:
        return [str(n) for n in rng.sample(range(1, count + 1), count)]
    if kind < 0.75:
        return [str(n) for n in rng.sample(range(1, 100), count)]
    return rng.sample(LETTERS, count)


def _order(mark: str) -> tuple[int, str]:
    """Sorts numbers by value and letters by the alphabet."""
    return len(mark), mark


def _draw(marked: MarkedScene, rng: random.Random) -> PillowImage:
    """Draws a scene, and a badge on every marked thing: inside it or at its corner."""
    width, height = rng.randint(200, 380), rng.randint(200, 380)
    picture = draw_scene(marked.scene, width=width, height=height)
    pen = ImageDraw.Draw(picture)
    face, ink = rng.choice(BADGES)
    inside, boxed, square = rng.random() < 0.5, rng.random() < 0.3, rng.random() < 0.4
    radius = 0.042 * min(width, height)
    letters = Letters(size=round(1.35 * radius))
    for mark, thing in marked.marks.items():
        x, y = thing.x * width, thing.y * height
        reach = thing.radius * min(width, height)
        if boxed:
            side = 1.12 * reach
            box = (
                max(1, x - side),
                max(1, y - side),
                min(width - 2, x + side),
                min(height - 2, y + side),
            )
            pen.rectangle(box, outline=LINES[marked.scene.ground], width=2)
            x, y = max(radius, box[0]), max(radius, box[1])
        elif not inside:
            x, y = x - 0.5 * reach, y - 0.5 * reach
        badge = (x - radius, y - radius, x + radius, y + radius)
        outline = pen.rectangle if square else pen.ellipse
        outline(badge, fill=face, outline=ink)
        letters.write(pen, x, y, mark, ink=ink, anchor="mm")
    return picture


def _caption(marked: MarkedScene) -> str:
    """Counts the things, and lists the marks."""
    return (
        f"A {marked.scene.ground} picture with {number_of(len(marked.scene.things), 'object')}, "
        f"of which {len(marked.marks)} carry the marks {join(sorted(marked.marks, key=_order))}."
    )


def _describe(marked: MarkedScene) -> str:
    """Describes what every mark is on."""
    parts = list[str]()
    for mark in sorted(marked.marks, key=_order):
        thing = marked.marks[mark]
        parts.append(f"Mark {mark} is on the {thing.size} {thing.name} at the {thing.place}.")
    for thing in marked.unmarked:
        parts.append(f"The {thing.size} {thing.name} at the {thing.place} has no mark.")
    return " ".join(parts)


def _ask_what(marked: MarkedScene, rng: random.Random) -> Question:
    """Asks for the thing under a mark, or for its colour, shape or size."""
    mark = rng.choice(list(marked.marks))
    thing, kind = marked.marks[mark], rng.randrange(4)
    phrasings, answer = (
        ((f"What is mark {mark} on?", f"Which thing carries the mark {mark}?"), thing.name),
        ((f"What colour is the thing with mark {mark}?", f"Which colour has mark {mark}'s thing?"),
         thing.colour),
        ((f"What shape is under mark {mark}?", f"Which shape carries mark {mark}?"), thing.shape),
        ((f"Is the thing marked {mark} large or small?", f"What size has the thing marked {mark}?"),
         thing.size),
    )[kind]  # fmt: skip
    return ask(rng, ("what", "colour", "shape", "size")[kind], phrasings, answer)


def _ask_which(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks for the mark on a thing."""
    names = [t.name for t in marked.scene.unique() if t not in marked.unmarked]
    if not names:
        return None
    name = rng.choice(names)
    colour, shape = name.split()
    words = (
        f"Which mark is on the {name}?",
        f"What is the mark of the {name}?",
        f"How is the {name} marked?",
    )
    return ask(rng, "which", words, marked.on(colour=colour, shape=shape)[0])


def _ask_which_ones(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks for all marks on a colour or a shape, in reading order of the marks."""
    thing = rng.choice(list(marked.marks.values()))
    if rng.random() < 0.5:
        marks, named = marked.on(colour=thing.colour), f"{thing.colour} things"
    else:
        marks, named = marked.on(shape=thing.shape), plural(thing.shape)
    if len(marks) < 2:
        return None
    words = (f"Which marks are on {named}?", f"List the marks on {named} in order.")
    return ask(rng, "which_ones", words, join(sorted(marks, key=_order)))


def _ask_count(marked: MarkedScene, rng: random.Random) -> Question:
    """Asks how many marks there are, or how many on things of a kind."""
    if rng.random() < 0.3:
        words = ("How many marks are there?", "How many things carry a mark?", "Count the marks.")
        return ask(rng, "count", words, str(len(marked.marks)))
    thing = rng.choice(marked.scene.things)
    if rng.random() < 0.5:
        colour = rng.choice((thing.colour, thing.colour, rng.choice(list(COLOURS))))
        words = (f"How many marks are on {colour} things?", f"Count the marks on {colour} things.")
        return ask(rng, "count_some", words, str(len(marked.on(colour=colour))))
    shape = rng.choice((thing.shape, thing.shape, rng.choice(list(SHAPES))))
    words = (f"How many marks are on {plural(shape)}?", f"Count the marked {plural(shape)}.")
    return ask(rng, "count_some", words, str(len(marked.on(shape=shape))))


def _ask_at(marked: MarkedScene, rng: random.Random) -> Question:
    """Asks where a mark is, or which one is at a place, if no other is at the same side."""
    mark, thing = rng.choice(list(marked.marks.items()))
    if rng.random() < 0.5 or _shares_side(marked, thing):
        words = (f"Where is mark {mark}?", f"In which part of the picture is mark {mark}?")
        return ask(rng, "where", words, thing.place)
    words = (f"Which mark is at the {thing.place}?", f"What mark do you see at the {thing.place}?")
    return ask(rng, "at", words, mark)


def _shares_side(marked: MarkedScene, thing: Thing) -> bool:
    """Whether "at the top", the name of a cell, is true of the things beside it too."""
    others = [t for t in marked.marks.values() if t is not thing]
    if (thing.col == 1) == (thing.row == 1):  # a corner, or the center
        return False
    if thing.col == 1:
        return any(t.row == thing.row for t in others)
    return any(t.col == thing.col for t in others)


def _ask_neighbour(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks for the mark in the next cell of the 3 x 3 grid."""
    mark, thing = rng.choice(list(marked.marks.items()))
    side, dx, dy = rng.choice(SIDES)
    beside = [
        m for m, t in marked.marks.items() if (t.col - dx, t.row - dy) == (thing.col, thing.row)
    ]
    if not beside:
        return None
    words = (f"Which mark is directly {side} mark {mark}?", f"What mark comes next {side} {mark}?")
    return ask(rng, "neighbour", words, beside[0])


def _ask_share(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks what two marked things have in common."""
    pairs = [
        (a, b, what, one)
        for a, first in marked.marks.items()
        for b, second in marked.marks.items()
        for what, one, other in (
            ("colour", first.colour, second.colour),
            ("shape", first.shape, second.shape),
        )
        if a != b and one == other
    ]
    if not pairs:
        return None
    a, b, what, answer = rng.choice(pairs)
    words = (f"Which {what} do the things marked {a} and {b} share?",)
    return ask(rng, "share", words, answer)


def _ask_alike(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks whether two marked things share their colour or shape; yes is as likely as no."""
    mark, thing = rng.choice(list(marked.marks.items()))
    what, wanted = rng.choice(("colour", "shape")), rng.random() < 0.5
    fitting = marked.on(colour=thing.colour) if what == "colour" else marked.on(shape=thing.shape)
    others = [m for m in marked.marks if m != mark and (m in fitting) == wanted]
    if not others:
        return None
    words = (f"Do the things marked {mark} and {rng.choice(others)} have the same {what}?",)
    return ask(rng, "alike", words, yes_or_no(wanted))


def _ask_larger(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks which of two marks is on the larger or smaller thing."""
    large = [m for m, t in marked.marks.items() if t.size == "large"]
    small = [m for m, t in marked.marks.items() if t.size == "small"]
    if not large or not small:
        return None
    a, b = rng.choice(large), rng.choice(small)
    first, second = rng.sample((a, b), 2)
    word, answer = rng.choice((("larger", a), ("smaller", b)))
    words = (f"Which mark is on the {word} thing, {first} or {second}?",)
    return ask(rng, "larger", words, answer)


def _ask_unmarked(marked: MarkedScene, rng: random.Random) -> Question | None:
    """Asks for the thing without a mark."""
    if not marked.unmarked and rng.random() < 0.85:
        return None
    answer = marked.unmarked[0].name if marked.unmarked else "none"
    words = ("Which thing has no mark?", "Which thing is not marked?")
    return ask(rng, "unmarked", words, answer)


SIDES = (("right of", 1, 0), ("left of", -1, 0), ("below", 0, 1), ("above", 0, -1))
QUESTIONS: tuple[Callable[[MarkedScene, random.Random], Question | None], ...] = (
    _ask_what,
    _ask_which,
    _ask_which_ones,
    _ask_count,
    _ask_at,
    _ask_neighbour,
    _ask_share,
    _ask_alike,
    _ask_larger,
    _ask_unmarked,
)
