"""Circles: a labelled radius or diameter, two circles side by side, sectors and discs cut up."""

import random

from onevision.synth.kit.questions import picture_sample
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import (
    UNITS,
    Figure,
    in_square,
    in_unit,
    length_label,
    one_of,
    random_style,
    towards,
)


def _circle(rng: random.Random) -> Sample:
    """One circle with its radius or its diameter."""
    by_radius, unit, radius = rng.random() < 0.5, rng.choice(UNITS), rng.randint(2, 24)
    label = length_label(radius if by_radius else 2 * radius, unit)
    figure = _draw_circle(rng, label, by_radius=by_radius)
    what = "radius" if by_radius else "diameter"
    where, square = in_unit(unit), in_square(unit)
    caption = f"A circle with a {what} of {label}."
    detail = (
        f"{caption} So its {'diameter' if by_radius else 'radius'} is "
        f"{length_label(2 * radius if by_radius else radius, unit)}, its circumference "
        f"{2 * radius} pi and its area {radius * radius} pi."
    )
    asked = [
        ask(rng, "circle_radius", (f"What is the radius of the circle{where}?",
            f"How far is the rim from the middle{where}?"), str(radius)),
        ask(rng, "circle_diameter", (f"What is the diameter of the circle{where}?",
            f"How wide is the circle{where}?"), str(2 * radius)),
        ask(rng, "circle_area", (f"What is the area of the circle as a multiple of pi{square}?",
            ), f"{radius * radius} pi"),
        ask(rng, "circle_around", (
            f"What is the circumference of the circle as a multiple of pi{where}?",),
            f"{2 * radius} pi"),
        ask(rng, "circle_label", ("Is the radius or the diameter drawn?",
            "Does the line inside show the radius or the diameter?"), what),
        ask(rng, "circle_square", (f"How long is the side of the smallest square that holds the "
            f"circle{where}?",), str(2 * radius)),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_circle(rng: random.Random, label: str, *, by_radius: bool) -> Figure:
    """Draws a circle with a radius or a diameter at some angle."""
    pixels = rng.randint(65, 105)
    side = 2 * pixels + rng.randint(40, 90)
    figure = Figure(random_style(rng), side, side)
    middle = (side / 2, side / 2)
    style = figure.style
    figure.canvas.circle(*middle, pixels, fill=style.fill, ink=style.ink, thickness=2)
    degrees = rng.choice((0, 0, 30, 330, 200, 150, 90))
    end = towards(middle, degrees, pixels)
    start = middle if by_radius else towards(middle, degrees + 180, pixels)
    figure.line(start, end)
    figure.dot(middle)
    figure.label_side(start, end, label, away_from=(middle[0] + 3, side))
    return figure


def _two(rng: random.Random) -> Sample:
    """Two circles that touch, each with its radius."""
    one, other = rng.sample(range(3, 16), 2)
    while not 0.55 < one / other < 1.8:
        one, other = rng.sample(range(3, 16), 2)
    unit = rng.choice(UNITS)
    figure = _draw_two(rng, one, other, unit)
    where = in_unit(unit)
    caption = (
        f"Two circles that touch: the left one has a radius of {length_label(one, unit)}, "
        f"the right one of {length_label(other, unit)}."
    )
    detail = (
        f"{caption} Their middles are {one + other} apart, and together they are "
        f"{2 * (one + other)} wide. The {'left' if one > other else 'right'} one is larger."
    )
    asked = [
        ask(rng, "circles_apart", (f"How far apart are the middles of the circles{where}?",),
            str(one + other)),
        ask(rng, "circles_wide", (f"How wide are both circles together{where}?",),
            str(2 * (one + other))),
        ask(rng, "circles_larger", ("Which circle is larger, the left or the right one?",),
            "left" if one > other else "right"),
        ask(rng, "circles_radius", (f"What is the radius of the left circle{where}?",), str(one)),
        ask(rng, "circles_radius", (f"What is the radius of the right circle{where}?",),
            str(other)),
        ask(rng, "circles_diameter", (f"What is the diameter of the left circle{where}?",),
            str(2 * one)),
        ask(rng, "circles_diameter", (f"What is the diameter of the right circle{where}?",),
            str(2 * other)),
        ask(rng, "circles_difference", (
            f"By how much do the two radii differ{where}?",), str(abs(one - other))),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_two(rng: random.Random, one: int, other: int, unit: str) -> Figure:
    """Draws two circles side by side, to scale, each with its radius on its outer side."""
    scale = rng.randint(250, 330) / (2 * (one + other))
    width, height = round(2 * (one + other) * scale) + 40, round(2 * max(one, other) * scale) + 50
    figure = Figure(random_style(rng), width, height)
    y, x = height / 2, 20 + one * scale
    for value, middle in ((one, x), (other, x + (one + other) * scale)):
        style, pixels = figure.style, value * scale
        figure.canvas.circle(middle, y, pixels, fill=style.fill, ink=style.ink, thickness=2)
        figure.dot((middle, y))
        # Away from the other circle, or it would look like a line between the two.
        end = (middle - pixels if middle == x else middle + pixels, y)
        figure.line((middle, y), end)
        label = length_label(value, unit)
        figure.label_side((middle, y), end, label, away_from=(middle, y + 9))
    return figure


def _sectors(rng: random.Random) -> Sample:
    """A full turn in three or four angles, one of them unknown."""
    count = rng.choice((3, 3, 4))
    while True:
        cuts = sorted(rng.sample(range(5, 360, 5), count - 1))
        angles = [b - a for a, b in zip([0, *cuts], [*cuts, 360], strict=True)]
        if min(angles) >= 50 and max(angles) < 175:
            break
    hidden, unknown = rng.randrange(count), rng.choice("xyzw")
    pixels = rng.randint(80, 105)
    side = 2 * pixels + 50
    figure = Figure(random_style(rng), side, side)
    middle, style = (side / 2, side / 2), figure.style
    figure.canvas.circle(*middle, pixels, fill=style.fill, ink=style.ink, thickness=2)
    turn = rng.randrange(360)
    for n, angle in enumerate(angles):
        begin = turn + sum(angles[:n])
        start, end = towards(middle, begin, pixels), towards(middle, begin + angle, pixels)
        figure.line(middle, start)
        figure.mark_angle(middle, start, end, unknown if n == hidden else f"{angle}°")
    given = [angle for n, angle in enumerate(angles) if n != hidden]
    caption = (
        f"A circle cut into {count} sectors with angles of "
        f"{', '.join(f'{a}°' for a in given)} and one unknown angle marked {unknown}."
    )
    answer = angles[hidden]
    detail = f"{caption} All of them make 360°, so the unknown angle is {answer}°."
    asked = [
        ask(rng, "sector_angle", (f"How many degrees is the angle {unknown}?",
            "What is the unknown angle in degrees?"), str(answer)),
        ask(rng, "sector_sum", ("What do the given angles add up to in degrees?",),
            str(sum(given))),
        ask(rng, "sector_count", ("Into how many sectors is the circle cut?",
            "How many sectors are there?"), str(count)),
        ask(rng, "sector_given", ("What is the largest of the angles given in degrees?",),
            str(max(given))),
        ask(rng, "sector_least", ("What is the smallest of the angles given in degrees?",),
            str(min(given))),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


make = one_of(_circle, _circle, _two, _sectors)
