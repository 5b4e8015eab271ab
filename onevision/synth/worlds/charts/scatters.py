"""Scatter charts: a few lettered points on a grid, or two or three groups of coloured ones.

6 ┤ · · A · · ·      Every point lies on a crossing of grid lines, so its place can be read.
3 ┤ · · · · · B
0 ┼─┬─┬─┬─┬─┬─┬
  0 2 4 6 8
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit import lexicon
from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.shapes import Colour, Point
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import join, number_of
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.charts.axes import GROUNDS, MARGIN
from onevision.synth.worlds.charts.topics import INKS

QUANTITIES = (
    ("Age", "Height"), ("Distance", "Time"), ("Price", "Sales"), ("Weight", "Speed"),
    ("Width", "Length"), ("Hours", "Marks"), ("Rain", "Harvest"), ("Depth", "Pressure"),
    ("Size", "Cost"), ("Visits", "Profit"), ("Sugar", "Salt"), ("Work", "Pay"),
)  # fmt: skip
STEPS = (1, 1, 2, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One point: its name (or its group's) and where it lies, in units of the axes."""

    name: str
    colour: str
    x: int
    y: int


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Dots, the axes they lie between, and how they are drawn."""

    x_name: str
    y_name: str
    dots: tuple[Dot, ...]
    named: bool
    steps: tuple[int, int]
    num_columns: int
    num_rows: int
    cell: int
    letters: Letters
    ground: Colour

    @property
    def title(self) -> str:
        """The title."""
        return f"{self.y_name} against {self.x_name.lower()}"

    def spot(self, dot: Dot) -> Point:
        """Returns where in the picture a dot lies."""
        left = MARGIN + 2 * self.letters.line_height + 16
        bottom = MARGIN + 26 + self.letters.line_height + self.cell * self.num_rows
        return (
            left + dot.x / self.steps[0] * self.cell,
            bottom - dot.y / self.steps[1] * self.cell,
        )

    def groups(self) -> dict[str, list[Dot]]:
        """Returns the dots of every colour."""
        found: dict[str, list[Dot]] = {}
        for dot in self.dots:
            found.setdefault(dot.colour, []).append(dot)
        return found


def random_scatter(rng: random.Random) -> Scatter:
    """Generates a scatter chart's content and look."""
    named = rng.random() < 0.55
    columns, rows = rng.randint(6, 9), rng.randint(5, 8)
    steps = (rng.choice(STEPS), rng.choice(STEPS))
    places = [(x, y) for x in range(1, columns) for y in range(1, rows)]
    dots: list[Dot] = []
    if named:
        count = rng.randint(3, 6)
        names = rng.choice(("ABCDEFG", "PQRSTUV", rng.sample(lexicon.FIRST_NAMES, count)))
        colours = [rng.choice(list(INKS))] * count
        spots = _apart(rng, places, count)
    else:
        groups = rng.sample(list(INKS), rng.randint(2, 3))
        colours = [c for c in groups for _ in range(rng.randint(1, 6))]
        count = len(colours)
        names = colours
        spots = rng.sample(places, count)
    for name, colour, (x, y) in zip(names, colours, spots, strict=False):
        dots.append(Dot(name=name, colour=colour, x=x * steps[0], y=y * steps[1]))
    x_name, y_name = rng.choice(QUANTITIES)
    return Scatter(
        x_name=x_name,
        y_name=y_name,
        dots=tuple(dots),
        named=named,
        steps=steps,
        num_columns=columns,
        num_rows=rows,
        cell=rng.randint(28, 38),
        letters=Letters(size=rng.randint(11, 13)),
        ground=rng.choice(GROUNDS),
    )


def _apart(rng: random.Random, places: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Picks places, no two side by side, so that names beside dots stay clear of other dots."""
    chosen: list[tuple[int, int]] = []
    for place in rng.sample(places, len(places)):
        if all(abs(place[0] - x) > 1 or abs(place[1] - y) > 1 for x, y in chosen):
            chosen.append(place)
    return chosen[:count]


def draw(chart: Scatter) -> PillowImage:
    """Draws a scatter chart."""
    corner = Dot(name="", colour="", x=0, y=0)
    left, bottom = chart.spot(corner)
    right, top = left + chart.cell * chart.num_columns, bottom - chart.cell * chart.num_rows
    row = chart.letters.line_height
    canvas = Canvas(
        round(right) + 3 * MARGIN, round(bottom) + 2 * row + MARGIN + 6, ground=chart.ground
    )
    canvas.text(
        canvas.width / 2, MARGIN, chart.title, anchor="mt",
        letters=Letters(size=chart.letters.size + 3, bold=True),
    )  # fmt: skip
    faint, dark = (215, 215, 215), (40, 40, 40)
    for n in range(chart.num_columns + 1):
        x = left + n * chart.cell
        canvas.line([(x, top), (x, bottom)], ink=faint if n else dark)
        canvas.text(x, bottom + 4, str(n * chart.steps[0]), letters=chart.letters, anchor="mt")
    for n in range(chart.num_rows + 1):
        y = bottom - n * chart.cell
        canvas.line([(left, y), (right, y)], ink=faint if n else dark)
        canvas.text(left - 5, y, str(n * chart.steps[1]), letters=chart.letters, anchor="rm")
    middle = (left + right) / 2
    canvas.text(middle, bottom + row + 5, chart.x_name, letters=chart.letters, anchor="mt")
    canvas.text_upwards(
        MARGIN + row / 2 - 4, (top + bottom) / 2, chart.y_name, letters=chart.letters
    )
    for dot in chart.dots:
        x, y = chart.spot(dot)
        canvas.circle(x, y, 5, fill=INKS[dot.colour])
        if chart.named:
            canvas.text(x + 7, y - 8, dot.name, letters=chart.letters, anchor="lm")
    return canvas.picture()


def describe(chart: Scatter) -> str:
    """Describes everything a scatter chart shows."""
    if chart.named:
        told = join(f"{d.name} ({d.x}, {d.y})" for d in chart.dots)
        return f"All points are {chart.dots[0].colour}. The points are {told}."
    counts = [number_of(len(dots), f"{colour} point") for colour, dots in chart.groups().items()]
    told = "; ".join(
        f"{colour} {', '.join(f'({d.x}, {d.y})' for d in dots)}"
        for colour, dots in chart.groups().items()
    )
    return f"There are {join(counts)}. They lie at {told}."


def list_places(chart: Scatter) -> str:
    """Lists where each named point lies."""
    return ", ".join(f"{d.name} ({d.x}, {d.y})" for d in chart.dots)


def questions(chart: Scatter, rng: random.Random) -> Iterator[Question]:
    """Asks about the points, their places and the axes."""
    words = ("How many points are there?", "Count the points.")
    yield ask(rng, "scatter_count", words, str(len(chart.dots)))
    words = ("What does the horizontal axis show?", "What is written below the horizontal axis?")
    yield ask(rng, "scatter_axis", words, chart.x_name)
    words = ("What does the vertical axis show?", "What is written beside the vertical axis?")
    yield ask(rng, "scatter_axis", words, chart.y_name)
    yield from _ask_of_names(chart, rng) if chart.named else _ask_of_groups(chart, rng)


def _ask_of_names(chart: Scatter, rng: random.Random) -> Iterator[Question]:
    for dot in rng.sample(chart.dots, 2):
        words = (f"What is the {chart.x_name.lower()} of {dot.name}?",
                 f"At which value of {chart.x_name.lower()} does {dot.name} lie?")  # fmt: skip
        yield ask(rng, "scatter_x", words, str(dot.x))
        words = (f"What is the {chart.y_name.lower()} of {dot.name}?",
                 f"At which value of {chart.y_name.lower()} does {dot.name} lie?")  # fmt: skip
        yield ask(rng, "scatter_y", words, str(dot.y))
    dot = rng.choice(chart.dots)
    words = (f"Which point lies at ({dot.x}, {dot.y})?", f"What is at ({dot.x}, {dot.y})?")
    yield ask(rng, "scatter_at", words, dot.name)
    yield from _ask_extremes(chart, rng)


def _ask_extremes(chart: Scatter, rng: random.Random) -> Iterator[Question]:
    xs, ys = [d.x for d in chart.dots], [d.y for d in chart.dots]
    for word, values, value in (
        (f"largest {chart.y_name.lower()}", ys, max(ys)),
        (f"smallest {chart.y_name.lower()}", ys, min(ys)),
        (f"largest {chart.x_name.lower()}", xs, max(xs)),
        (f"smallest {chart.x_name.lower()}", xs, min(xs)),
    ):
        if values.count(value) == 1:
            dot = chart.dots[values.index(value)]
            words = (f"Which point has the {word}?", f"What has the {word}?")
            yield ask(rng, "scatter_extreme", words, dot.name)


def _ask_of_groups(chart: Scatter, rng: random.Random) -> Iterator[Question]:
    groups = chart.groups()
    for colour, dots in groups.items():
        words = (f"How many {colour} points are there?", f"Count the {colour} points.")
        yield ask(rng, "scatter_group_count", words, str(len(dots)))
    counts = {colour: len(dots) for colour, dots in groups.items()}
    for word, value in (("most", max(counts.values())), ("fewest", min(counts.values()))):
        names = [colour for colour, count in counts.items() if count == value]
        if len(names) == 1:
            words = (
                f"Which colour has the {word} points?",
                f"The {word} points have which colour?",
            )
            yield ask(rng, "scatter_group", words, names[0])
    highest = max(d.y for d in chart.dots)
    top = [d for d in chart.dots if d.y == highest]
    if len(top) == 1:
        words = ("What colour is the highest point?", "Which colour does the topmost point have?")
        yield ask(rng, "scatter_extreme_colour", words, top[0].colour)
    limit = rng.randrange(1, chart.num_rows - 1) * chart.steps[1]
    words = (f"How many points lie above {limit} on the vertical axis?",)
    yield ask(rng, "scatter_above", words, str(sum(d.y > limit for d in chart.dots)))
