"""Rectangles, squares, parallelograms and L-shapes with labelled sides, drawn to scale."""

import random

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import Point
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import (
    UNITS,
    Figure,
    area_label,
    centre,
    fit,
    in_square,
    in_unit,
    length_label,
    one_of,
    random_style,
    towards,
)


def _figure(rng: random.Random, shape: list[Point]) -> tuple[Figure, list[Point]]:
    width, height = rng.randint(220, 320), rng.randint(190, 270)
    points = fit(shape, width=width, height=height, margin=58)
    figure = Figure(random_style(rng), width, height)
    figure.polygon(points)
    return figure, points


def _rectangle(rng: random.Random) -> Sample:
    """A rectangle or a square with two labelled sides."""
    across, down = _random_size(rng)
    unit = rng.choice(UNITS)
    shape = [(0.0, 0.0), (float(across), 0.0), (float(across), float(down)), (0.0, float(down))]
    figure, points = _figure(rng, shape)
    middle = centre(points)
    figure.label_side(points[2], points[3], length_label(across, unit), away_from=middle)
    figure.label_side(points[1], points[2], length_label(down, unit), away_from=middle)
    diagonal = rng.random() < 0.25
    if diagonal:
        figure.canvas.dashed(points[0], points[2], ink=figure.style.ink)
    name = "square" if across == down else "rectangle"
    where, square = in_unit(unit), in_square(unit)
    size = f"{length_label(across, unit)} wide and {length_label(down, unit)} high"
    line = " A dashed diagonal cuts it in two." if diagonal else ""
    caption = f"A {name} that is {size}.{line}"
    around, area = 2 * (across + down), across * down
    detail = (
        f"{caption} Its perimeter is {length_label(around, unit)} "
        f"and its area is {area_label(area, unit)}."
    )
    asked = [
        ask(rng, "rectangle_area", (f"What is the area of the {name}{square}?",
            f"How large is the {name}{square}?"), str(area)),
        ask(rng, "rectangle_perimeter", (f"What is the perimeter of the {name}{where}?",
            f"How long is the way once around the {name}{where}?"), str(around)),
        ask(rng, "rectangle_side", (f"How wide is the shape{where}?",
            f"How long is the lower side{where}?"), str(across)),
        ask(rng, "rectangle_side", (f"How high is the shape{where}?",
            f"How long is the right side{where}?"), str(down)),
        ask(rng, "rectangle_kind", ("Is the shape a square or only a rectangle?",), name),
    ]  # fmt: skip
    if diagonal and area % 2 == 0:
        words = (f"How large is one of the two triangles{square}?",)
        asked.append(ask(rng, "rectangle_half", words, str(area // 2)))
    if across != down:
        words = (f"By how much is the longer side longer than the shorter one{where}?",)
        asked.append(ask(rng, "rectangle_difference", words, str(abs(across - down))))
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _random_size(rng: random.Random) -> tuple[int, int]:
    """Returns the width and height of a rectangle that is not too long, at times of a square."""
    while True:
        across, down = rng.randint(3, 20), rng.randint(3, 15)
        if rng.random() < 0.3:
            down = across
        if 0.35 < down / across < 2.9:
            return across, down


def _corner(rng: random.Random) -> Sample:
    """An L-shape: a rectangle that lacks a corner, with one of its six sides unknown."""
    across, down = rng.randint(8, 18), rng.randint(7, 14)
    cut_across, cut_down = rng.randint(3, across - 3), rng.randint(3, down - 3)
    unit, unknown = rng.choice(UNITS), rng.choice("xyzw")
    corners = [
        (0, 0), (across - cut_across, 0), (across - cut_across, cut_down), (across, cut_down),
        (across, down), (0, down),
    ]  # fmt: skip
    flip = rng.random() < 0.5
    shape = [(float(-x if flip else x), float(y)) for x, y in corners]
    figure, points = _figure(rng, shape)
    lengths = (
        across - cut_across, cut_down, cut_across, down - cut_down, across, down,
    )  # fmt: skip
    hidden = rng.choice((0, 1, 2, 3))
    labels = [unknown if n == hidden else str(length) for n, length in enumerate(lengths)]
    _label_corner(figure, points, labels, unit)
    where, square = in_unit(unit), in_square(unit)
    area, around = across * down - cut_across * cut_down, 2 * (across + down)
    known = ", ".join(str(v) for n, v in enumerate(lengths) if n != hidden)
    caption = f"An L-shape with the sides {known} and one unknown side marked {unknown}."
    detail = (
        f"{caption} The unknown side is {length_label(lengths[hidden], unit)}. "
        f"The perimeter is {length_label(around, unit)} and the area is {area_label(area, unit)}."
    )
    asked = [
        ask(rng, "corner_side", (f"How long is the side marked {unknown}{where}?",
            f"Find the missing length{where}."), str(lengths[hidden])),
        ask(rng, "corner_area", (f"What is the area of the shape{square}?",
            f"How large is the L-shape{square}?"), str(area)),
        ask(rng, "corner_perimeter", (f"What is the perimeter of the shape{where}?",), str(around)),
        ask(rng, "corner_bottom", (f"How long is the lowest side{where}?",), str(across)),
        ask(rng, "corner_tall", (f"How high is the shape at its highest{where}?",), str(down)),
        ask(rng, "corner_longest", (f"How long is the longest side{where}?",),
            str(max(lengths))),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _label_corner(figure: Figure, points: list[Point], labels: list[str], unit: str) -> None:
    """Writes the lengths beside the sides of an L-shape, and the unit in the corner."""
    # Inside the thick part: every side's outer side looks away from it.
    heart = ((points[0][0] + points[1][0]) / 2, (points[3][1] + points[4][1]) / 2)
    for n, label in enumerate(labels):
        figure.label_side(points[n], points[(n + 1) % 6], label, away_from=heart)
    if unit:
        figure.canvas.text(8, 6, f"all lengths{in_unit(unit)}", letters=figure.style.letters)


def _slant(rng: random.Random) -> Sample:
    """A parallelogram with two sides and one angle."""
    base = rng.randint(6, 16)
    side = rng.randint(max(4, base // 2), 10)
    degrees = rng.choice((60, 65, 70, 75, 105, 110, 115, 120))
    unit, names = rng.choice(UNITS), rng.choice(("ABCD", "PQRS", "KLMN"))
    top = towards((0.0, 0.0), -degrees, side)
    shape = [(0.0, 0.0), (float(base), 0.0), (base + top[0], top[1]), top]
    figure, points = _figure(rng, shape)
    figure.label_corners(points, names)
    figure.label_side(points[0], points[1], length_label(base, unit), away_from=centre(points))
    figure.label_side(points[1], points[2], length_label(side, unit), away_from=centre(points))
    figure.mark_angle(points[0], points[1], points[3], f"{degrees}°")
    where = in_unit(unit)
    caption = (
        f"A parallelogram {names} with sides of {length_label(base, unit)} and "
        f"{length_label(side, unit)} and an angle of {degrees}° at {names[0]}."
    )
    detail = (
        f"{caption} The angle at {names[2]} is {degrees}° too, those at {names[1]} and {names[3]} "
        f"are {180 - degrees}°. The perimeter is {length_label(2 * (base + side), unit)}."
    )
    asked = [
        ask(rng, "slant_angle", (f"How many degrees is the angle at {names[1]}?",
            f"How many degrees is the angle at {names[3]}?"), str(180 - degrees)),
        ask(rng, "slant_opposite", (f"How many degrees is the angle at {names[2]}?",),
            str(degrees)),
        ask(rng, "slant_perimeter", (f"What is the perimeter of the figure{where}?",),
            str(2 * (base + side))),
        ask(rng, "slant_side", (f"How long is {names[0]}{names[1]}{where}?",
            f"How long is {names[3]}{names[2]}{where}?"), str(base)),
        ask(rng, "slant_side", (f"How long is {names[1]}{names[2]}{where}?",
            f"How long is {names[0]}{names[3]}{where}?"), str(side)),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


make = one_of(_rectangle, _rectangle, _corner, _slant)
