"""Points in a plane with axes: their coordinates, their quadrant, the way between them."""

import random

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.kit.words import join
from onevision.synth.sample import Question, Sample, ask
from onevision.synth.worlds.diagrams.figure import Figure, random_style

NAMES = ("ABCDE", "PQRST", "KLMNO", "UVWXZ")
CORNERS = {(True, True): "top right", (False, True): "top left", (False, False): "bottom left",
           (True, False): "bottom right"}  # fmt: skip
Places = dict[str, tuple[int, int]]


def make(rng: random.Random) -> Sample:
    """Makes a plane with three to five points."""
    reach, cell = rng.randint(4, 6), rng.randint(20, 25)
    side = 2 * (reach + 1) * cell
    figure = Figure(random_style(rng), side, side)
    _draw_axes(figure, reach, cell)
    count = rng.randint(2, 5)
    names = rng.choice(NAMES)[:count]
    spots = _apart(rng, reach, count)
    places = dict(zip(names, spots, strict=True))
    colours = dict(zip(names, rng.sample([c for c in COLOURS if c != "yellow"], count),
                       strict=True))  # fmt: skip
    for name, (x, y) in places.items():
        at = (side / 2 + x * cell, side / 2 - y * cell)
        figure.canvas.circle(*at, 5, fill=COLOURS[colours[name]])
        # Away from the axes, whose numbers stand close to them.
        aside, anchor = (7, "lm") if x > 0 else (-7, "rm")
        place = (at[0] + aside, at[1] - 9 if y > 0 else at[1] + 9)
        figure.canvas.text(*place, name, letters=figure.style.letters, anchor=anchor)
    shown = join(f"{name} ({x}, {y})" for name, (x, y) in places.items())
    caption = f"A plane with the axes x and y and the points {shown}."
    described = join(f"{name} is {colours[name]}" for name in names)
    detail = f"{caption} Both axes go from {-reach} to {reach}. Of the points, {described}."
    asked = _questions(rng, places, colours)
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_axes(figure: Figure, reach: int, cell: int) -> None:
    middle = (reach + 1) * cell
    low, high = cell * 0.6, 2 * middle - cell * 0.6
    canvas, letters = figure.canvas, figure.style.letters
    for n in range(-reach, reach + 1):
        place = middle + n * cell
        for ends in ([(place, low), (place, high)], [(low, place), (high, place)]):
            canvas.line(ends, ink=(208, 212, 220))
    for ends in ([(middle, low), (middle, high)], [(low, middle), (high, middle)]):
        canvas.line(ends, ink=figure.style.ink, thickness=2)
    small = type(letters)(size=11)
    for n in range(-reach, reach + 1):
        if n:
            canvas.text(middle + n * cell, middle + 9, str(n), letters=small, anchor="mm")
            canvas.text(middle - 5, middle - n * cell, str(n), letters=small, anchor="rm")
    canvas.text(high + 2, middle - 10, "x", letters=letters, anchor="mm")
    canvas.text(middle + 10, low, "y", letters=letters, anchor="mm")


def _apart(rng: random.Random, reach: int, count: int) -> list[tuple[int, int]]:
    """Returns places off the axes, of which no two are neighbours."""
    span = [n for n in range(-reach, reach + 1) if n]
    while True:
        spots = [(rng.choice(span), rng.choice(span)) for _ in range(count)]
        gaps = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a in spots for b in spots if a is not b]
        if min(gaps) > 1:
            return spots


def _questions(rng: random.Random, places: Places, colours: dict[str, str]) -> list[Question]:
    names = list(places)
    name, other = rng.sample(names, 2)
    x, y = places[name]
    p, q = places[other]
    asked = [
        ask(rng, "plane_place", (f"What are the coordinates of {name}?",
            f"At which coordinates is the point {name}?"), f"({x}, {y})"),
        ask(rng, "plane_x", (f"What is the x coordinate of {other}?",), str(p)),
        ask(rng, "plane_y", (f"What is the y coordinate of {other}?",), str(q)),
        ask(rng, "plane_at", (f"Which point is at ({p}, {q})?",), other),
        ask(rng, "plane_count", ("How many points are marked?",), str(len(names))),
        ask(rng, "plane_colour", (f"What colour is the point {name}?",), colours[name]),
        ask(rng, "plane_quarter", (f"In which quarter of the plane is {name}?",
            f"Where is {name}, seen from the crossing of the axes?"), CORNERS[x > 0, y > 0]),
        ask(rng, "plane_across", (f"How many units lie between {name} and {other} in x direction?",
            ), str(abs(x - p))),
    ]  # fmt: skip
    for word, index in (("right", 0), ("up", 1)):
        values = [place[index] for place in places.values()]
        if values.count(max(values)) == 1:
            words = (f"Which point lies farthest {word}?",)
            asked.append(ask(rng, "plane_farthest", words, names[values.index(max(values))]))
    return asked
