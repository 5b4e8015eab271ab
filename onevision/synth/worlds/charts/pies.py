r"""Pie and ring charts: three to seven slices, with or without their percentages.

   ___
 / A  |\      The slices are named beside the pie or in a legend of coloured squares.
|_____|B|    Without percentages, no two slices are closer than a person can tell.
 \ C  |/
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from PIL.Image import Image as PillowImage

from onevision.synth.kit import lexicon
from onevision.synth.kit.canvas import BLACK, WHITE, Canvas
from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.text import Letters
from onevision.synth.kit.words import join, yes_or_no
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.charts.axes import GROUNDS, MARGIN
from onevision.synth.worlds.charts.topics import INKS

THEMES = (
    ("Monthly expenses", lexicon.EXPENSES),
    ("Favourite sports", lexicon.SPORTS),
    ("Favourite fruit", lexicon.FRUITS),
    ("Favourite drinks", lexicon.DRINKS),
    ("Budget by department", lexicon.DEPARTMENTS),
    ("Votes", lexicon.SURNAMES),
    ("Guests by country", lexicon.COUNTRIES),
    ("Orders by city", lexicon.CITIES),
    ("Favourite subjects", lexicon.SUBJECTS),
    ("Traffic", lexicon.VEHICLES),
    ("Free time", lexicon.HOBBIES),
    ("Shares of the farm", lexicon.ANIMALS),
)
MIN_PERCENT = 5
# Slices to be compared by eye differ by at least this many percentage points.
VISIBLE_GAP = 6


@dataclass(frozen=True, kw_only=True)
class Pie:
    """Names, whole percentages that add up to 100, their colours, and how it is drawn."""

    title: str
    names: tuple[str, ...]
    percents: tuple[int, ...]
    colours: tuple[str, ...]
    labelled: bool
    legend: bool
    ring: bool
    radius: int
    letters: Letters
    ground: Colour
    turn: int

    @property
    def kind(self) -> str:
        """What the chart is called."""
        return "ring chart" if self.ring else "pie chart"


def random_pie(rng: random.Random) -> Pie:
    """Generates a pie chart's content and look."""
    labelled, legend = rng.random() < 0.75, rng.random() < 0.5
    title, names = rng.choice(THEMES)
    count = rng.randint(3, 7 if labelled else 4)
    return Pie(
        title=title,
        names=tuple(rng.sample(names, count)),
        percents=_random_percents(rng, count, apart=0 if labelled else VISIBLE_GAP),
        colours=tuple(rng.sample(list(INKS), count)),
        labelled=labelled,
        legend=legend,
        ring=rng.random() < 0.3,
        radius=rng.randint(70, 100) if legend else rng.randint(65, 85),
        letters=Letters(size=rng.randint(12, 14)),
        ground=rng.choice(GROUNDS),
        turn=rng.randrange(360),
    )


@dataclass(frozen=True, kw_only=True)
class PieLayout:
    """The picture's size and the centre of the disc."""

    width: int
    height: int
    x: float
    y: float


def layout(pie: Pie) -> PieLayout:
    """Makes room for the disc, the names and the title."""
    title = _title_letters(pie)
    side = max(pie.letters.width(f"{name} 00%") for name in pie.names) + 14
    top = MARGIN + title.line_height + (10 if pie.legend else 26)
    width = 2 * pie.radius + (side + 30 if pie.legend else 2 * side)
    width = max(width, title.width(pie.title)) + 2 * MARGIN
    return PieLayout(
        width=width,
        height=top + 2 * pie.radius + (14 if pie.legend else 30),
        x=MARGIN + pie.radius + 5 if pie.legend else width / 2,
        y=top + pie.radius,
    )


def draw(pie: Pie) -> PillowImage:
    """Draws a pie chart."""
    places = layout(pie)
    canvas = Canvas(places.width, places.height, ground=pie.ground)
    canvas.text(places.width / 2, MARGIN, pie.title, letters=_title_letters(pie), anchor="mt")
    _draw_slices(canvas, pie, x=places.x, y=places.y)
    if pie.legend:
        left, top = places.x + pie.radius + 18, places.y - pie.radius + 8
        _draw_legend(canvas, pie, x=left, y=top)
    return canvas.picture()


def _title_letters(pie: Pie) -> Letters:
    return Letters(size=pie.letters.size + 3, bold=True)


def middles(pie: Pie) -> list[float]:
    """Returns the angle of the middle of every slice, clockwise from three o'clock."""
    starts = [sum(pie.percents[:n]) for n in range(len(pie.percents))]
    return [
        (pie.turn + 3.6 * (start + percent / 2)) % 360
        for start, percent in zip(starts, pie.percents, strict=True)
    ]


def _draw_slices(canvas: Canvas, pie: Pie, *, x: float, y: float) -> None:
    for n, middle in enumerate(middles(pie)):
        half = 1.8 * pie.percents[n]
        fill = INKS[pie.colours[n]]
        canvas.slice(x, y, pie.radius, middle - half, middle + half, fill=fill)
    for n, middle in enumerate(middles(pie)):
        end = math.radians(middle - 1.8 * pie.percents[n])
        rim = (x + pie.radius * math.cos(end), y + pie.radius * math.sin(end))
        canvas.line([(x, y), rim], ink=pie.ground, thickness=1.5)
    if pie.ring:
        canvas.circle(x, y, pie.radius * 0.48, fill=pie.ground)
    if pie.legend:
        _write_inside(canvas, pie, x=x, y=y)
    else:
        _write_beside(canvas, pie, x=x, y=y, right=True)
        _write_beside(canvas, pie, x=x, y=y, right=False)


def _write_inside(canvas: Canvas, pie: Pie, *, x: float, y: float) -> None:
    """Writes the percentages into the slices that have room for them."""
    for percent, colour, middle in zip(pie.percents, pie.colours, middles(pie), strict=True):
        if pie.labelled and percent >= 2 * MIN_PERCENT:
            across, down = math.cos(math.radians(middle)), math.sin(math.radians(middle))
            way = 0.72 * pie.radius
            ink = WHITE if sum(INKS[colour]) < 400 else BLACK
            canvas.text(
                x + way * across, y + way * down, f"{percent}%",
                letters=pie.letters, anchor="mm", ink=ink,
            )  # fmt: skip


def _write_beside(canvas: Canvas, pie: Pie, *, x: float, y: float, right: bool) -> None:
    """Writes the names on one side of the pie, each by its slice, without overlap."""
    sides = [(math.radians(middle), n) for n, middle in enumerate(middles(pie))]
    labels = sorted(
        (math.sin(angle), math.cos(angle), n)
        for angle, n in sides
        if (math.cos(angle) >= 0) == right
    )
    gap = pie.letters.line_height
    rows: list[float] = []
    for down, _, _ in labels:
        wanted = y + (pie.radius + 12) * down
        rows.append(max(wanted, rows[-1] + gap) if rows else wanted)
    lowest = y + pie.radius + 16
    for k in reversed(range(len(rows))):
        rows[k] = min(rows[k], lowest - gap * (len(rows) - 1 - k))
    sign = 1 if right else -1
    for row, (down, across, n) in zip(rows, labels, strict=True):
        text = f"{pie.names[n]} {pie.percents[n]}%" if pie.labelled else pie.names[n]
        rim = (x + pie.radius * across, y + pie.radius * down)
        end = x + sign * (max(pie.radius * abs(across), pie.radius * 0.55) + 12)
        canvas.line([rim, (end - sign * 3, row)], ink=(120, 120, 120))
        canvas.text(end, row, text, letters=pie.letters, anchor="lm" if right else "rm")


def _draw_legend(canvas: Canvas, pie: Pie, *, x: float, y: float) -> None:
    for n, name in enumerate(pie.names):
        # What does not fit into its slice is written in the legend.
        small = pie.labelled and pie.percents[n] < 2 * MIN_PERCENT
        text = f"{name} {pie.percents[n]}%" if small else name
        canvas.rectangle(x, y, x + 12, y + 12, fill=INKS[pie.colours[n]])
        canvas.text(x + 18, y + 6, text, letters=pie.letters, anchor="lm")
        y += pie.letters.line_height + 4


def _random_percents(rng: random.Random, count: int, *, apart: int) -> tuple[int, ...]:
    """Splits 100 into shares of at least `MIN_PERCENT`, `apart` from one another."""
    unit = rng.choice((1, 5)) if not apart else 1
    while True:
        cuts = sorted(rng.sample(range(unit, 100, unit), count - 1))
        percents = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
        ranked = sorted(percents)
        gaps = [b - a for a, b in pairwise(ranked)]
        if ranked[0] >= MIN_PERCENT and min(gaps) >= apart:
            return tuple(percents)


def describe(pie: Pie) -> str:
    """Describes everything a pie chart shows."""
    colours = join(
        f"{name} is {colour}" for name, colour in zip(pie.names, pie.colours, strict=True)
    )
    if not pie.labelled:
        order = join(name for _, name in _rank(pie))
        return f"{colours}. From the largest to the smallest slice: {order}."
    shares = join(f"{name} {percent}%" for percent, name in _rank(pie))
    return f"{colours}. The shares are {shares}."


def list_shares(pie: Pie) -> str:
    """Lists the shares, the largest first."""
    return ", ".join(f"{name} {percent}%" for percent, name in _rank(pie))


def _rank(pie: Pie) -> list[tuple[int, str]]:
    return sorted(zip(pie.percents, pie.names, strict=True), reverse=True)


def questions(pie: Pie, rng: random.Random) -> Iterator[Question]:
    """Asks about slices, their shares and their colours."""
    n = rng.randrange(len(pie.names))
    name, colour = pie.names[n], pie.colours[n]
    words = (f"What colour is the slice for {name}?", f"Which colour stands for {name}?")
    yield ask(rng, "pie_colour", words, colour)
    m = rng.randrange(len(pie.names))
    words = (
        f"What does the {pie.colours[m]} slice stand for?",
        f"What is shown in {pie.colours[m]}?",
    )
    yield ask(rng, "pie_name", words, pie.names[m])
    words = (f"How many slices does the {pie.kind.split()[0]} have?", "Count the slices.")
    yield ask(rng, "pie_count", words, str(len(pie.names)))
    words = ("What is the title of the chart?", "Read the title of the chart.")
    yield ask(rng, "pie_title", words, pie.title)
    yield from _ask_extremes(pie, rng)
    if pie.labelled:
        yield from _ask_shares(pie, rng)


def _ask_extremes(pie: Pie, rng: random.Random) -> Iterator[Question]:
    for word, value in (("largest", max(pie.percents)), ("smallest", min(pie.percents))):
        if pie.percents.count(value) == 1:
            n = pie.percents.index(value)
            words = (f"Which slice is the {word}?", f"What has the {word} share?")
            yield ask(rng, "pie_extreme", words, pie.names[n])
            words = (f"What colour is the {word} slice?",)
            yield ask(rng, "pie_extreme_colour", words, pie.colours[n])
    n, m = rng.sample(range(len(pie.names)), 2)
    if pie.percents[n] != pie.percents[m]:
        words = (f"Is the share of {pie.names[n]} larger than that of {pie.names[m]}?",)
        yield ask(rng, "pie_compare", words, yes_or_no(pie.percents[n] > pie.percents[m]))


def _ask_shares(pie: Pie, rng: random.Random) -> Iterator[Question]:
    for n in rng.sample(range(len(pie.names)), 2):
        name, percent = pie.names[n], pie.percents[n]
        words = (f"What is the share of {name}?", f"How many percent does {name} have?")
        yield ask(rng, "pie_share", words, f"{percent}%")
        if pie.percents.count(percent) == 1:
            words = (f"What has a share of {percent}%?", f"Which slice is {percent}%?")
            yield ask(rng, "pie_at", words, name)
    n, m = sorted(rng.sample(range(len(pie.names)), 2), key=lambda k: -pie.percents[k])
    a, b = pie.names[n], pie.names[m]
    words = (
        f"Which share do {a} and {b} have together?",
        f"What do the shares of {a} and {b} add up to?",
    )
    yield ask(rng, "pie_sum", words, f"{pie.percents[n] + pie.percents[m]}%")
    difference = pie.percents[n] - pie.percents[m]
    if difference:
        words = (f"By how many percent points is {a} above {b}?",)
        yield ask(rng, "pie_difference", words, str(difference))
