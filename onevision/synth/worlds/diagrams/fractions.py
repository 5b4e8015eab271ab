"""Fractions: a disc, a bar or a grid cut into equal parts, some of them coloured."""

import math
import random

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS, Colour
from onevision.synth.kit.words import yes_or_no
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import GROUNDS, INKS

GRIDS = {4: 2, 6: 3, 8: 4, 9: 3, 10: 5, 12: 4, 15: 5, 16: 4, 20: 5, 24: 6, 25: 5}
# Denominators whose fractions are whole percentages.
PERCENT_PARTS = (2, 4, 5, 10, 20, 25)


def make(rng: random.Random) -> Sample:
    """Makes a shape cut into parts, the coloured ones a fraction in lowest terms."""
    form = rng.choice(("disc", "disc", "bar", "grid"))
    parts = (
        rng.choice(list(GRIDS)) if form == "grid" else rng.choice((2, *range(3, 13), *range(3, 13)))
    )
    coloured = rng.choice([n for n in range(1, parts) if math.gcd(n, parts) == 1])
    colour, ink = rng.choice(list(COLOURS)), rng.choice(INKS)
    chosen = set(range(coloured))
    if rng.random() < 0.4:
        chosen = set(rng.sample(range(parts), coloured))
    draw = {"disc": _draw_disc, "bar": _draw_bar, "grid": _draw_grid}[form]
    canvas = draw(rng, parts, chosen, COLOURS[colour], ink)
    rest = parts - coloured
    caption = f"A {form} cut into {parts} equal parts, {coloured} of them {colour}."
    detail = f"{caption} So {coloured}/{parts} of it is {colour} and {rest}/{parts} is white."
    asked = [
        ask(rng, "fraction_coloured", (f"Which fraction of the {form} is {colour}?",
            f"What part of the {form} is coloured, as a fraction?"), f"{coloured}/{parts}"),
        ask(rng, "fraction_rest", (f"Which fraction of the {form} is white?",
            f"What part of the {form} is not coloured, as a fraction?"), f"{rest}/{parts}"),
        ask(rng, "fraction_parts", (f"Into how many equal parts is the {form} cut?",
            "How many parts are there in all?"), str(parts)),
        ask(rng, "fraction_count", (f"How many parts are {colour}?", "Count the coloured parts."),
            str(coloured)),
        ask(rng, "fraction_white", ("How many parts are white?", "Count the white parts."),
            str(rest)),
        ask(rng, "fraction_colour", ("What colour are the parts that are not white?",), colour),
    ]  # fmt: skip
    if parts in PERCENT_PARTS:
        words = (f"What percentage of the {form} is {colour}?",)
        asked.append(ask(rng, "fraction_percent", words, f"{100 * coloured // parts}%"))
    if 2 * coloured != parts:
        words = (f"Is more than half of the {form} {colour}?",)
        asked.append(ask(rng, "fraction_half", words, yes_or_no(2 * coloured > parts)))
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _draw_disc(
    rng: random.Random, parts: int, chosen: set[int], tint: Colour, ink: Colour
) -> Canvas:
    radius = rng.randint(62, 90)
    side = 2 * radius + 50
    canvas = Canvas(side, side, ground=rng.choice(GROUNDS))
    turn, wedge, middle = rng.choice((-90, -90, 0, 45)), 360 / parts, side / 2
    for n in range(parts):
        start = turn + n * wedge
        fill = tint if n in chosen else (255, 255, 255)
        canvas.slice(middle, middle, radius, start, start + wedge, fill=fill)
    for n in range(parts):
        angle = math.radians(turn + n * wedge)
        rim = (middle + radius * math.cos(angle), middle + radius * math.sin(angle))
        canvas.line([(middle, middle), rim], ink=ink, thickness=1.5)
    canvas.circle(middle, middle, radius, ink=ink, thickness=2)
    return canvas


def _draw_bar(
    rng: random.Random, parts: int, chosen: set[int], tint: Colour, ink: Colour
) -> Canvas:
    part = max(18, rng.randint(180, 280) // parts)
    return _draw_cells(rng, parts, parts, (part, rng.randint(34, 56)), chosen, tint, ink)


def _draw_grid(
    rng: random.Random, parts: int, chosen: set[int], tint: Colour, ink: Colour
) -> Canvas:
    cell = rng.randint(26, 36)
    return _draw_cells(rng, parts, GRIDS[parts], (cell, cell), chosen, tint, ink)


def _draw_cells(
    rng: random.Random, parts: int, columns: int, cell: tuple[int, int], chosen: set[int],
    tint: Colour, ink: Colour,
) -> Canvas:  # fmt: skip
    rows = parts // columns
    canvas = Canvas(columns * cell[0] + 50, rows * cell[1] + 50, ground=rng.choice(GROUNDS))
    for n in range(parts):
        x, y = 25 + n % columns * cell[0], 25 + n // columns * cell[1]
        fill = tint if n in chosen else (255, 255, 255)
        canvas.rectangle(x, y, x + cell[0] + 1, y + cell[1] + 1, fill=fill, ink=ink)
    return canvas
