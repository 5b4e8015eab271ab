"""Two pictures and statements about them, true or false; or a picture and its changed copy.

+-----------+  +-----------+   True or false: both pictures show a star.            true
| ●       ★ |  |     ★     |   True or false: the first has more red objects.       false
|      ■    |  | ●       ● |   How many circles are there in both pictures?         3
+-----------+  +-----------+   Which colour is in both pictures?                    red
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.synth.kit.questions import choose
from onevision.synth.kit.scene import CELLS, GROUNDS, Scene, draw_scene, random_thing
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.words import article, join, number_of, plural, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.sets import differences
from onevision.synth.worlds.shapes.scenes import describe


@dataclass(frozen=True, kw_only=True)
class ScenePair:
    """Two scenes, what each is called, and the colours and shapes they are made of."""

    scenes: tuple[Scene, Scene]
    names: tuple[str, str]
    colours: tuple[str, ...]
    shapes: tuple[str, ...]

    def counts(self, kind: "ThingKind") -> tuple[int, int]:
        """Counts the things of a kind in each scene."""
        first, second = (len(s.having(colour=kind.colour, shape=kind.shape)) for s in self.scenes)
        return first, second


@dataclass(frozen=True, kw_only=True)
class ThingKind:
    """What things have in common: a colour, a shape, both or nothing."""

    colour: str | None
    shape: str | None

    @property
    def one(self) -> str:
        """One thing of the kind: "red star", "red object"."""
        return f"{self.colour or ''} {self.shape or 'object'}".strip()

    @property
    def many(self) -> str:
        """Several: "red stars"."""
        return plural(self.one)


# What is claimed, and whether it is true.
Claim = tuple[str, bool]


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th pair with statements of a split."""
    rng = rng_for(split, "statements", index)
    joined = rng.random() < 0.3
    names = ("left", "right") if joined else ("first", "second")
    candidates: list[Question] = []
    if rng.random() < 0.35:
        edited = differences.random_edit(rng)
        pair = _pair((edited.first, edited.second), names)
        candidates += differences.questions(edited, names, rng)
        candidates += rng.sample(list(_ask_openly(pair, rng)), 3)
        ending = f" {differences.describe(edited)}"
    else:
        pair, ending = _random_pair(rng, names), ""
        candidates += _ask_openly(pair, rng)
    counts = [number_of(len(scene.things), "object") for scene in pair.scenes]
    told = [f"The {n} picture: {describe(s)}" for n, s in zip(names, pair.scenes, strict=True)]
    width, height = rng.randint(110, 200), rng.randint(110, 200)
    pictures = [draw_scene(scene, width=width, height=height) for scene in pair.scenes]
    return Sample(
        media=(Image(_side_by_side(pictures)),) if joined else tuple(map(Image, pictures)),
        caption=f"Two pictures, the {names[0]} with {counts[0]}, the {names[1]} with {counts[1]}.",
        detail=f"{told[0]} {told[1]}{ending}",
        questions=choose(rng, [*candidates, *_ask_statements(pair, rng)], max_closed_share=0.45),
    )


def _side_by_side(pictures: list[PillowImage]) -> PillowImage:
    """Puts both pictures into one, with a gap between them."""
    (first, second), gap = pictures, 12
    canvas = PIL.new("RGB", (2 * first.width + gap, first.height), (90, 120, 130))
    canvas.paste(first, (0, 0))
    canvas.paste(second, (first.width + gap, 0))
    return canvas


def _pair(scenes: tuple[Scene, Scene], names: tuple[str, str]) -> ScenePair:
    """Collects the colours and shapes of two scenes."""
    things = [t for scene in scenes for t in scene.things]
    colours = tuple(c for c in COLOURS if any(t.colour == c for t in things))
    shapes = tuple(s for s in SHAPES if any(t.shape == s for t in things))
    return ScenePair(scenes=scenes, names=names, colours=colours, shapes=shapes)


def _random_pair(rng: random.Random, names: tuple[str, str]) -> ScenePair:
    """Makes both scenes of the same few colours and shapes, so that counts are worth comparing."""
    colours = rng.sample(list(COLOURS), rng.randint(2, 4))
    shapes = rng.sample(list(SHAPES), rng.randint(2, 4))
    first, second = (_scene(rng, colours, shapes) for _ in range(2))
    return _pair((first, second), names)


def _scene(rng: random.Random, colours: list[str], shapes: list[str]) -> Scene:
    """Generates a scene of some colours and shapes."""
    cells = rng.sample(CELLS, rng.randint(2, 7))
    things = tuple(
        random_thing(rng, colour=rng.choice(colours), shape=rng.choice(shapes), col=col, row=row)
        for col, row in sorted(cells, key=CELLS.index)
    )
    return Scene(ground=rng.choice(list(GROUNDS)), things=things)


def _kind(pair: ScenePair, rng: random.Random) -> ThingKind:
    """Chooses a kind of thing in one of the pictures, by colour, shape or both."""
    thing = rng.choice([t for scene in pair.scenes for t in scene.things])
    colour, shape = rng.choice(
        ((thing.colour, thing.shape), (thing.colour, None), (None, thing.shape))
    )
    return ThingKind(colour=colour, shape=shape)


def _ask_statements(pair: ScenePair, rng: random.Random) -> Iterator[Question]:
    """Asks of claims whether they are true; as many are as are not."""
    for family in CLAIMS:
        wanted = rng.random() < 0.5
        for _ in range(12):
            claim, truth = family(pair, rng)
            if truth is wanted:
                break
        else:
            continue
        if rng.random() < 0.3:
            words = (f"Is this right? {claim}", f"{claim} Is that so?")
            yield ask(rng, "statement", words, yes_or_no(truth))
            continue
        words = (
            f"True or false? {claim}",
            f"{claim} True or false?",
            f"Is this statement true or false? {claim}",
        )
        yield ask(rng, "statement", words, "true" if truth else "false")


def _exact(pair: ScenePair, rng: random.Random) -> Claim:
    """Claims how many things of a kind one picture has."""
    kind, n = _kind(pair, rng), rng.randrange(2)
    count, said = pair.counts(kind)[n], rng.randint(1, 4)
    how, truth = rng.choice(
        (("exactly", count == said), ("at least", count >= said), ("at most", count <= said))
    )
    noun = kind.one if said == 1 else kind.many
    verb = "is" if said == 1 else "are"
    return f"There {verb} {how} {said} {noun} in the {pair.names[n]} picture.", truth


def _compare(pair: ScenePair, rng: random.Random) -> Claim:
    """Claims which picture has more things of a kind."""
    kind, n = _kind(pair, rng), rng.randrange(2)
    counts = pair.counts(kind)
    how, truth = rng.choice(
        (
            ("more", counts[n] > counts[1 - n]),
            ("fewer", counts[n] < counts[1 - n]),
            ("as many", counts[n] == counts[1 - n]),
        )
    )
    than = "as" if how == "as many" else "than"
    one, other = pair.names[n], pair.names[1 - n]
    return f"The {one} picture has {how} {kind.many} {than} the {other} picture.", truth


def _both(pair: ScenePair, rng: random.Random) -> Claim:
    """Claims that both pictures or only one shows a kind of thing."""
    kind = _kind(pair, rng)
    seen = sum(count > 0 for count in pair.counts(kind))
    thing = article(kind.one)
    if rng.random() < 0.5:
        return f"Both pictures show {thing}.", seen == 2
    return f"Only one of the pictures shows {thing}.", seen == 1


def _together(pair: ScenePair, rng: random.Random) -> Claim:
    """Claims how many things the pictures have together."""
    kind = _kind(pair, rng) if rng.random() < 0.5 else ThingKind(colour=None, shape=None)
    total = sum(pair.counts(kind))
    said = max(1, total + rng.choice((0, 0, -2, -1, 1, 2)))
    return f"Together the pictures show {number_of(said, kind.one)}.", total == said


def _every(pair: ScenePair, rng: random.Random) -> Claim:
    """Claims that all or none of the things of a shape have a colour, in both pictures."""
    shape, colour = rng.choice(pair.shapes), rng.choice(pair.colours)
    shaped = [t for scene in pair.scenes for t in scene.having(shape=shape)]
    if rng.random() < 0.5:
        return f"Every {shape} in the pictures is {colour}.", all(
            t.colour == colour for t in shaped
        )
    return f"No {shape} in the pictures is {colour}.", all(t.colour != colour for t in shaped)


def _place(pair: ScenePair, rng: random.Random) -> Claim:
    """Claims that a kind of thing is in a row or at a place."""
    kind, n = _kind(pair, rng), rng.randrange(2)
    things = pair.scenes[n].having(colour=kind.colour, shape=kind.shape)
    if rng.random() < 0.6:
        row, name = rng.choice(((0, "top"), (1, "middle"), (2, "bottom")))
        said = f"There is {article(kind.one)} in the {name} row of the {pair.names[n]} picture."
        return said, any(t.row == row for t in things)
    everything = pair.scenes[n].things
    thing = rng.choice(things or everything)
    said = f"At the {thing.place} of the {pair.names[n]} picture is {article(kind.one)}."
    return said, thing in things


def _ask_openly(pair: ScenePair, rng: random.Random) -> Iterator[Question]:
    """Asks openly about one picture or both."""
    kind, n = _kind(pair, rng), rng.randrange(2)
    words = (
        f"How many {kind.many} are in the {pair.names[n]} picture?",
        f"Count the {kind.many} in the {pair.names[n]} picture.",
    )
    yield ask(rng, "count", words, str(pair.counts(kind)[n]))
    kind = _kind(pair, rng)
    words = (f"How many {kind.many} are there in both pictures together?",)
    yield ask(rng, "total", words, str(sum(pair.counts(kind))))
    kind = _kind(pair, rng)
    counts = pair.counts(kind)
    equal = counts[0] == counts[1]
    if not equal or rng.random() < 0.5:
        words = (f"Which picture has more {kind.many}, or are they equally many?",)
        answer = "equally many" if equal else pair.names[counts[0] < counts[1]]
        yield ask(rng, "more", words, answer)
    for what in ("colour", "shape"):
        yield from _ask_shared(pair, what, rng)
    thing = rng.choice(pair.scenes[n].things)
    words = (
        f"What is at the {thing.place} of the {pair.names[n]} picture?",
        f"Which object is at the {thing.place} of the {pair.names[n]} picture?",
    )
    yield ask(rng, "what_at", words, thing.name)


def _ask_shared(pair: ScenePair, what: str, rng: random.Random) -> Iterator[Question]:
    """Asks which colours or shapes are in both pictures, or in only one."""
    first, second = (
        [t.colour if what == "colour" else t.shape for t in scene.things] for scene in pair.scenes
    )
    values = pair.colours if what == "colour" else pair.shapes
    both = [v for v in values if v in first and v in second]
    if len(both) <= 2:
        words = (f"Which {plural(what)} are in both pictures?",)
        yield ask(rng, "in_both", words, join(both))
    for name, mine, other in zip(pair.names, (first, second), (second, first), strict=True):
        only = [v for v in values if v in mine and v not in other]
        if len(only) == 1:
            words = (f"Which {what} is in the {name} picture only?",)
            yield ask(rng, "only", words, only[0])


CLAIMS: tuple[Callable[[ScenePair, random.Random], Claim], ...] = (
    _exact,
    _compare,
    _both,
    _together,
    _every,
    _place,
)
