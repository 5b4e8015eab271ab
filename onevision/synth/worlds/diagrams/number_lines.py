"""Number lines with marked points, and jumps from one number to the next.

     A        B              "Which number is at A?"  4
├──┬──┬──┬──┬──┬──┤          "How far is B from A?"   6
0     4     8     12
"""

import random
from itertools import pairwise

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS, Colour
from onevision.synth.kit.words import join, number_of
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import Figure, one_of, random_style

STEPS = (1, 1, 2, 5, 10, 20, 25, 100)
MARKS = {name: COLOURS[name] for name in ("red", "blue", "green", "purple", "orange", "brown")}
LEFT = 28


def _line(rng: random.Random, *, labelled_every: int) -> tuple[Figure, int, int, int, float]:
    """Draws a line; returns it, its first number, step, last tick and the pixels of a tick."""
    step = rng.choice(STEPS)
    ticks = rng.randint(8, 14)
    first = step * rng.choice((0, 0, rng.randint(-8, -1), rng.randint(1, 20)))
    spacing = rng.uniform(24, 30)
    figure = Figure(random_style(rng), round(2 * LEFT + ticks * spacing), 130)
    y = 80.0
    ends = (first, first + ticks * step)
    widest = max(figure.style.letters.width(str(end)) for end in ends)
    while labelled_every * spacing < widest + 8:
        labelled_every += 1
    figure.line((LEFT - 14, y), (LEFT + ticks * spacing + 14, y))
    for tick in range(ticks + 1):
        x = LEFT + tick * spacing
        labelled = tick % labelled_every == 0
        figure.line((x, y - (7 if labelled else 4)), (x, y + (7 if labelled else 4)))
        if labelled:
            figure.write((x, y + 20), str(first + tick * step))
    return figure, first, step, ticks, spacing


def _points(rng: random.Random) -> Sample:
    """Two or three lettered points."""
    every = rng.choice((2, 2, 4, 5))
    figure, first, step, ticks, spacing = _line(rng, labelled_every=every)
    count = rng.choice((2, 3, 3))
    places = _apart(rng, ticks, count)
    names = rng.choice(("ABC", "PQR", "XYZ", "KLM"))[:count]
    letters = list(names)
    rng.shuffle(letters)
    colours = rng.sample(list(MARKS), count)
    values = {name: first + place * step for name, place in zip(letters, places, strict=True)}
    for name, place, colour in zip(letters, places, colours, strict=True):
        _draw_point(figure, LEFT + place * spacing, name, MARKS[colour])
    caption = f"A number line with the points {join(letters)}."
    facts = join(f"{name} ({colour}) is at {values[name]}"
                   for name, colour in zip(letters, colours, strict=True))  # fmt: skip
    detail = f"{caption} The ticks are {step} apart, starting at {first}. {facts}."
    far, near = letters[-1], letters[0]
    asked = [
        *(ask(rng, "line_value", (f"Which number is at {name}?", f"What number does {name} mark?"),
              str(value)) for name, value in values.items()),
        ask(rng, "line_distance", (f"How far is {far} from {near}?",
            f"What is the distance between {near} and {far}?"), str(values[far] - values[near])),
        ask(rng, "line_step", ("How far apart are two neighbouring ticks?",
            "How large is the step from one tick to the next?"), str(step)),
        ask(rng, "line_largest", ("Which point marks the largest number?",), far),
        ask(rng, "line_smallest", ("Which point marks the smallest number?",), near),
        ask(rng, "line_sum", (f"What is the sum of the numbers at {near} and {far}?",),
            str(values[far] + values[near])),
        ask(rng, "line_colour", (f"What colour is the point {near}?",), colours[0]),
    ]  # fmt: skip
    if (places[-1] - places[0]) % 2 == 0:
        words = (f"Which number lies half way between {near} and {far}?",)
        middle = (values[near] + values[far]) // 2
        asked.append(ask(rng, "line_middle", words, str(middle)))
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_point(figure: Figure, x: float, name: str, ink: Colour) -> None:
    """Marks a place on the line, with its name above."""
    figure.canvas.circle(x, 80, 5, fill=ink)
    figure.canvas.line([(x, 75), (x, 50)], ink=ink, thickness=1.5)
    figure.canvas.text(x, 40, name, letters=figure.style.letters, anchor="mm", ink=ink)


def _apart(rng: random.Random, ticks: int, count: int) -> list[int]:
    while True:
        places = sorted(rng.sample(range(ticks + 1), count))
        if all(b - a > 1 for a, b in pairwise(places)):
            return places


def _jumps(rng: random.Random) -> Sample:
    """Arcs that lead in equal jumps from one number to another."""
    figure, first, step, ticks, spacing = _line(rng, labelled_every=1)
    reach = rng.choice((2, 3, 4))
    count = rng.randint(1, ticks // reach)
    start = rng.randint(0, ticks - reach * count)
    name = rng.choice(list(MARKS))
    for jump in range(count):
        a = LEFT + (start + jump * reach) * spacing
        b = a + reach * spacing
        _draw_arc(figure, a, b, name)
    begin, end = first + start * step, first + (start + reach * count) * step
    figure.canvas.circle(LEFT + start * spacing, 80, 5, fill=MARKS[name])
    size = reach * step
    caption = f"A number line with {number_of(count, f'{name} jump')} from a dot at {begin}."
    detail = f"{caption} Each jump is {size} long, so they end at {end}."
    asked = [
        ask(rng, "jump_end", ("At which number do the jumps end?",
            "Where do the jumps lead in the end?"), str(end)),
        ask(rng, "jump_start", ("At which number do the jumps start?",
            "On which number is the dot?"), str(begin)),
        ask(rng, "jump_count", ("How many jumps are drawn?", "How many arcs are there?"),
            str(count)),
        ask(rng, "jump_size", ("How long is each jump?",), str(size)),
        ask(rng, "jump_way", ("How far do all jumps lead together?",), str(end - begin)),
        ask(rng, "jump_next", ("Where would one more jump lead?",), str(end + size)),
        ask(rng, "jump_colour", ("What colour are the jumps?",), name),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_arc(figure: Figure, a: float, b: float, name: str) -> None:
    """Draws a jump from one place on the line to another, with its arrow head."""
    height = 40.0
    steps = [n / 16 for n in range(17)]
    points = [(a + (b - a) * s, 76 - height * 4 * s * (1 - s)) for s in steps]
    figure.canvas.line(points, ink=MARKS[name], thickness=2)
    figure.canvas.polygon([(b, 77), (b - 7, 69), (b + 1, 67)], fill=MARKS[name])


make = one_of(_points, _points, _jumps)
