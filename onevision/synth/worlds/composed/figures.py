"""A diagram of things and arrows between them, or a bar chart of such things.

+-----------+    To which thing does the arrow from the star lead?   green circle
| *-->o     |    Which thing is the last of the diagram?             blue triangle
|   ^ <-'   |
+-----------+    How high is the bar of the star?                    7
|  7     2  |    Which thing has the highest bar?                    red star
|  #  4  #  |
|  *  o  ^  |
+-----------+
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS, Colour, Look, Point, random_looks
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import article, join, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

CORNERS: tuple[Point, ...] = ((0.23, 0.23), (0.77, 0.23), (0.23, 0.77), (0.77, 0.77))
MAX_VALUE = 9
INK: Colour = (40, 40, 45)
BARS: tuple[Colour, ...] = ((120, 125, 135), (90, 120, 150), (150, 130, 105))
PAPERS: tuple[Colour, ...] = ((252, 252, 252), (250, 247, 238), (240, 244, 250))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Things in the order of the arrows, their places, and their bars in the order shown."""

    looks: tuple[Look, ...]
    corners: tuple[Point, ...]
    values: tuple[int, ...]
    # The numbers of the things, from 0, from the leftmost bar to the rightmost.
    bars: tuple[int, ...]

    @property
    def highest(self) -> int:
        """The number of the thing with the highest bar."""
        return self.values.index(max(self.values))

    @property
    def lowest(self) -> int:
        """The number of the thing with the lowest bar."""
        return self.values.index(min(self.values))


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th diagram or chart of a split."""
    rng = rng_for(split, "figures", index)
    is_diagram = rng.random() < 0.5
    describe = describe_diagram if is_diagram else describe_chart
    figures = draw_apart(split, rng, random_figures, describe)
    names = join(look.name for look in sorted_looks(figures))
    if is_diagram:
        picture, asked = draw_diagram(figures, rng), _ask_diagram(figures, rng)
        caption = f"A diagram of arrows between things: {names}."
    else:
        picture, asked = draw_chart(figures, rng), _ask_chart(figures, rng)
        caption = f"A bar chart of things: {names}."
    return picture_sample(
        rng, picture, caption=caption, detail=f"{caption} {describe(figures)}", asked=asked
    )


def random_figures(rng: random.Random) -> Figures:
    """Chooses things, an order, and heights that all differ."""
    count = rng.choice((3, 4, 4))
    return Figures(
        looks=tuple(random_looks(rng, count)),
        corners=tuple(rng.sample(CORNERS, count)),
        values=tuple(rng.sample(range(1, MAX_VALUE + 1), count)),
        bars=tuple(rng.sample(range(count), count)),
    )


def sorted_looks(figures: Figures) -> list[Look]:
    """Returns the things in an order that gives nothing away."""
    return sorted(figures.looks, key=lambda look: look.name)


def describe_diagram(figures: Figures) -> str:
    """Says where every arrow leads."""
    steps = " to the ".join(look.name for look in figures.looks)
    return f"The arrows lead from the {steps}."


def describe_chart(figures: Figures) -> str:
    """Says how high every bar is."""
    told = join(f"{figures.looks[n].name} {figures.values[n]}" for n in figures.bars)
    return f"The bars from left to right: {told}."


def draw_diagram(figures: Figures, rng: random.Random) -> PillowImage:
    """Draws the things, and an arrow from each to the next."""
    side = rng.randint(98, 120)
    canvas, radius = Canvas(side, side, ground=rng.choice(PAPERS)), 0.115 * side
    spots = [(x * side, y * side) for x, y in figures.corners]
    for look, (x, y) in zip(figures.looks, spots, strict=True):
        canvas.shape(look.shape, x, y, radius, fill=COLOURS[look.colour])
    for start, end in pairwise(spots):
        _draw_arrow(canvas, start, end, room=1.45 * radius, head=0.075 * side)
    return canvas.picture()


def _draw_arrow(canvas: Canvas, start: Point, end: Point, *, room: float, head: float) -> None:
    """Draws an arrow that leaves `room` at both ends."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    dx, dy = math.cos(angle), math.sin(angle)
    tip = (end[0] - dx * room, end[1] - dy * room)
    tail = (start[0] + dx * room, start[1] + dy * room)
    neck = (tip[0] - dx * head, tip[1] - dy * head)
    canvas.line([tail, neck], ink=INK, thickness=2)
    barbs = [(neck[0] + s * dy * head * 0.6, neck[1] - s * dx * head * 0.6) for s in (-1, 1)]
    canvas.polygon([tip, *barbs], fill=INK)


def draw_chart(figures: Figures, rng: random.Random) -> PillowImage:
    """Draws a bar above each thing, with its height in figures."""
    side, tint = rng.randint(98, 120), rng.choice(BARS)
    canvas, letters = (
        Canvas(side, side, ground=rng.choice(PAPERS)),
        Letters(size=round(0.16 * side)),
    )
    base, unit, slot = 0.76 * side, 0.56 * side / MAX_VALUE, side / len(figures.bars)
    canvas.line([(3, base), (side - 3, base)], ink=INK, thickness=1)
    for place, n in enumerate(figures.bars):
        look, x, top = figures.looks[n], (place + 0.5) * slot, base - figures.values[n] * unit
        canvas.rectangle(x - 0.28 * slot, top, x + 0.28 * slot, base, fill=tint)
        canvas.shape(look.shape, x, 0.885 * side, 0.095 * side, fill=COLOURS[look.colour])
        canvas.text(x, top - 2, str(figures.values[n]), letters=letters, anchor="ms", ink=INK)
    return canvas.picture()


def _ask_diagram(figures: Figures, rng: random.Random) -> Iterator[Question]:
    looks = [look.name for look in figures.looks]
    for a, b in pairwise(looks):
        words: tuple[str, ...] = (
            f"To which thing does the arrow from the {a} lead?",
            f"Which thing does the arrow that begins at the {a} point to?",
        )
        yield ask(rng, "next", words, b)
        words = (f"From which thing does an arrow lead to the {b}?",)
        yield ask(rng, "previous", words, a)
    words = ("Which thing of the diagram is the first?", "At which thing do the arrows begin?")
    yield ask(rng, "first", words, looks[0])
    words = ("Which thing of the diagram is the last?", "At which thing do the arrows end?")
    yield ask(rng, "last", words, looks[-1])
    words = ("How many arrows are there?", "Count the arrows.")
    yield ask(rng, "arrows", words, str(len(looks) - 1))
    a, b = rng.sample(range(len(looks)), 2)
    words = (f"Does an arrow lead from the {looks[a]} to the {looks[b]}?",)
    yield ask(rng, "leads", words, yes_or_no(b == a + 1))


def _ask_chart(figures: Figures, rng: random.Random) -> Iterator[Question]:
    looks, values = [look.name for look in figures.looks], figures.values
    for name, value in zip(looks, values, strict=True):
        words: tuple[str, ...] = (
            f"How high is the bar of the {name}?",
            f"Which value has the {name}?",
        )
        yield ask(rng, "value", words, str(value))
    words = ("Which thing has the highest bar?", "Whose bar is the highest?")
    yield ask(rng, "highest", words, looks[figures.highest])
    words = ("Which thing has the lowest bar?", "Whose bar is the lowest?")
    yield ask(rng, "lowest", words, looks[figures.lowest])
    n, m = rng.sample(range(len(looks)), 2)
    words = (f"What do the bars of the {looks[n]} and the {looks[m]} add up to?",)
    yield ask(rng, "sum", words, str(values[n] + values[m]))
    words = (f"Is the bar of the {looks[n]} higher than that of the {looks[m]}?",)
    yield ask(rng, "higher", words, yes_or_no(values[n] > values[m]))
    words = (f"Which has the higher bar, {article(looks[n])} or {article(looks[m])}?",)
    better = n if values[n] > values[m] else m
    yield ask(rng, "higher_of_two", words, looks[better])
