"""Spot the difference: a picture, its copy with two to four changes, and questions about them.

+-----------+  +-----------+   How many differences are there?     3
| ●       ★ |  | ●       ☆ |   What has the star become?           yellow
|      ■    |  |      ▲    |   What is in the place of the square? blue triangle
| ◆         |  | ◆       ◯ |   What is in the second alone?        red ring
+-----------+  +-----------+   At which places do they differ?
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from onevision.synth.kit.scene import CELLS, Scene, Thing, random_scene, random_thing
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.words import join, number_of
from onevision.synth.sample import Question, ask

KINDS = ("colour", "shape", "size", "added", "removed")
# Those that need no new colour and no new shape.
KINDS_OF_THE_SAME = ("size", "removed")


@dataclass(frozen=True, kw_only=True)
class SceneDifference:
    """One change: the thing before, none if it is added, and after, none if it is removed."""

    kind: str
    before: Thing | None
    after: Thing | None

    @property
    def thing(self) -> Thing:
        """The thing that changes, as it is in the first picture if it is in both."""
        thing = self.before or self.after
        assert thing is not None
        return thing


@dataclass(frozen=True, kw_only=True)
class EditedScene:
    """A scene, its changed copy and the changes, in reading order."""

    first: Scene
    second: Scene
    differences: tuple[SceneDifference, ...]

    def of_kind(self, kind: str) -> list[SceneDifference]:
        """Returns the changes of a kind."""
        return [d for d in self.differences if d.kind == kind]


def random_edit(rng: random.Random) -> EditedScene:
    """Generates a scene and change up to four of its cells."""
    first = random_scene(rng, num_things=rng.randint(3, 5), distinct=True)
    colours = [c for c in COLOURS if not first.having(colour=c)]
    shapes = [s for s in SHAPES if not first.having(shape=s)]
    rng.shuffle(colours)
    rng.shuffle(shapes)
    old = rng.sample(first.things, len(first.things))
    made: list[SceneDifference] = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4))):
        kind = rng.choice(KINDS if colours and shapes else KINDS_OF_THE_SAME)
        if kind != "added" and len(old) == 1:
            continue
        thing = None if kind == "added" else old.pop()
        made.append(_change(rng, kind, thing, first, colours, shapes, made))
    after = {d.before: d.after for d in made if d.before is not None}
    things = [after.get(t, t) for t in first.things] + [d.after for d in made if d.before is None]
    kept = sorted((t for t in things if t is not None), key=lambda t: (t.row, t.col))
    made.sort(key=lambda d: (d.thing.row, d.thing.col))
    second = replace(first, things=tuple(kept))
    return EditedScene(first=first, second=second, differences=tuple(made))


def _change(
    rng: random.Random,
    kind: str,
    thing: Thing | None,
    scene: Scene,
    colours: list[str],
    shapes: list[str],
    made: list[SceneDifference],
) -> SceneDifference:
    """Makes one change; new colours and shapes are taken from those left."""
    if thing is None:
        taken = {(t.col, t.row) for t in (*scene.things, *(d.thing for d in made))}
        col, row = rng.choice([cell for cell in CELLS if cell not in taken])
        new = random_thing(rng, colour=colours.pop(), shape=shapes.pop(), col=col, row=row)
        return SceneDifference(kind=kind, before=None, after=new)
    if kind == "colour":
        colour = colours.pop()
        after: Thing | None = replace(thing, colour=colour, tint=COLOURS[colour])
    elif kind == "shape":
        after = replace(thing, shape=shapes.pop())
    elif kind == "size":
        size, radius = ("small", 0.085) if thing.size == "large" else ("large", 0.15)
        after = replace(thing, size=size, radius=radius)
    else:
        after = None
    return SceneDifference(kind=kind, before=thing, after=after)


def describe(edited: EditedScene) -> str:
    """Describes how the pictures differ, change by change."""
    if not edited.differences:
        return "The pictures are the same."
    count = number_of(len(edited.differences), "place")
    return " ".join((f"The pictures differ in {count}.", *map(_sentence, edited.differences)))


def _sentence(difference: SceneDifference) -> str:
    """Describes one change."""
    before, after = difference.before, difference.after
    if before is None:
        return f"The {difference.thing.name} at the {difference.thing.place} is new."
    if after is None:
        return f"The {before.name} at the {before.place} is gone."
    if difference.kind == "size":
        return f"The {before.name} at the {before.place} becomes {after.size}."
    return f"The {before.name} at the {before.place} becomes a {after.name}."


def questions(
    edited: EditedScene, names: tuple[str, str], rng: random.Random
) -> Iterator[Question]:
    """Asks for the number of the changes, their places and what they are."""
    first, second = names
    count = str(len(edited.differences))
    words = ("How many differences are there?", "In how many places do the pictures differ?")
    yield ask(rng, "differences", words, count)
    words = ("At which places do the pictures differ?", "Where are the pictures different?")
    places = join([d.thing.place for d in edited.differences])
    yield ask(rng, "places", words, places if edited.differences else "nowhere")
    for d in edited.differences:
        yield _ask_about(d, first, second, rng)
    for kind, verb in (("colour", "changed their colour"), ("shape", "changed their shape")):
        words = (f"How many objects {verb}?",)
        if edited.of_kind(kind) or rng.random() < 0.2:
            yield ask(rng, "count_changes", words, str(len(edited.of_kind(kind))))
    renamed = edited.of_kind("colour") + edited.of_kind("shape")
    for kind, where in (("added", second), ("removed", first)):
        alone = edited.of_kind(kind)
        if len(alone) == 1 and not renamed:
            words = (f"Which object is only in the {where} picture?",)
            yield ask(rng, "only_in", words, alone[0].thing.name)


def _ask_about(d: SceneDifference, first: str, second: str, rng: random.Random) -> Question:
    """Asks about one change; a colour or a shape names one thing, as things differ in both."""
    place = d.thing.place
    if d.before is None:
        words = (f"What is at the {place} of the {second} picture, but not of the {first}?",)
        return ask(rng, "added", words, d.thing.name)
    if d.after is None:
        words = (f"What is missing at the {place} of the {second} picture?",)
        return ask(rng, "removed", words, d.thing.name)
    if d.kind == "colour":
        words = (
            f"Which colour has the {d.before.shape} in the {second} picture?",
            f"What colour is the {d.before.shape} of the {second} picture?",
        )
        return ask(rng, "recoloured", words, d.after.colour)
    if d.kind == "shape":
        words = (f"What shape has the {d.before.colour} object in the {second} picture?",)
        return ask(rng, "reshaped", words, d.after.shape)
    words = (f"In which picture is the {d.before.name} larger?",)
    return ask(rng, "resized", words, first if d.before.size == "large" else second)
