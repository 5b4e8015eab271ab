"""Triangles, drawn to scale: a missing angle, labelled sides, right angles, base and height."""

import math
import random

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import Point
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import (
    UNITS,
    Figure,
    centre,
    fit,
    in_square,
    in_unit,
    length_label,
    one_of,
    random_style,
)

CORNERS = ("ABC", "ABC", "PQR", "XYZ", "KLM", "DEF", "RST")
UNKNOWNS = "xwyzu"
TRIPLES = ((3, 4, 5), (6, 8, 10), (5, 12, 13), (9, 12, 15), (8, 15, 17), (12, 16, 20), (7, 24, 25),
           (20, 21, 29), (15, 20, 25), (10, 24, 26))  # fmt: skip
# Narrower angles leave no room for a label.
MIN_ANGLE = 32


def _figure(rng: random.Random, shape: list[Point]) -> tuple[Figure, list[Point]]:
    """Places a triangle in a picture, turned at random."""
    style = random_style(rng)
    width, height = rng.randint(240, 330), rng.randint(220, 290)
    points = fit(shape, width=width, height=height, margin=44, turn=rng.randrange(360))
    figure = Figure(style, width, height)
    figure.polygon(points)
    return figure, points


def _angles(rng: random.Random) -> Sample:
    """Two angles are given, the third is asked."""
    angles = _random_angles(rng)
    alpha, beta, _ = (math.radians(a) for a in angles)
    side = math.sin(beta) / math.sin(alpha + beta)
    shape = [(0.0, 0.0), (1.0, 0.0), (side * math.cos(alpha), -side * math.sin(alpha))]
    figure, points = _figure(rng, shape)
    names, unknown, hidden = rng.choice(CORNERS), rng.choice(UNKNOWNS), rng.randrange(3)
    figure.label_corners(points, names)
    for n, point in enumerate(points):
        text = unknown if n == hidden else f"{angles[n]}°"
        figure.mark_angle(point, points[n - 1], points[n - 2], text)
    given = [n for n in range(3) if n != hidden]
    facts = " and ".join(f"{angles[n]}° at {names[n]}" for n in given)
    caption = f"A triangle {names} with angles of {facts}; the angle at {names[hidden]} is unknown."
    answer = angles[hidden]
    kind = "right" if 90 in angles else "obtuse" if max(angles) > 90 else "acute"
    third = f"The third angle is {answer}°, since the three add up to 180°."
    detail = f"{caption} {third} It is {'an' if kind != 'right' else 'a'} {kind} triangle."
    asked = [
        ask(rng, "triangle_angle", (f"How many degrees is the angle {unknown}?",
            f"Find the unknown angle at {names[hidden]} in degrees.",
            "What is the missing angle in degrees?"), str(answer)),
        *(ask(rng, "triangle_given", (f"How many degrees is the angle at {names[n]}?",
              f"Which angle in degrees is written at {names[n]}?"), str(angles[n])) for n in given),
        ask(rng, "triangle_sum", ("What do the two given angles add up to in degrees?",),
            str(180 - answer)),
        ask(rng, "triangle_kind", (
            "By its angles, is the triangle acute, right or obtuse?",), kind),
    ]  # fmt: skip
    largest = max(angles)
    if angles.count(largest) == 1:
        words = ("At which corner is the largest angle?", "Which corner has the largest angle?")
        asked.append(ask(rng, "triangle_corner", words, names[angles.index(largest)]))
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _random_angles(rng: random.Random) -> list[int]:
    while True:
        step = rng.choice((1, 5))
        first = rng.choice((90, rng.randrange(35, 115, step), rng.randrange(35, 115, step)))
        second = rng.randrange(35, 115, step)
        angles = [first, second, 180 - first - second]
        if min(angles) >= MIN_ANGLE:
            rng.shuffle(angles)
            return angles


def _sides(rng: random.Random) -> Sample:
    """Three labelled sides."""
    a, b, c = _random_sides(rng)
    unit, names = rng.choice(UNITS), rng.choice(CORNERS)
    # Corners 0 and 1 end side c, corners 1 and 2 side a, corners 2 and 0 side b.
    x = (b * b + c * c - a * a) / (2 * c)
    shape = [(0.0, 0.0), (float(c), 0.0), (x, -math.sqrt(b * b - x * x))]
    figure, points = _figure(rng, shape)
    figure.label_corners(points, names)
    lengths = (c, a, b)
    sides = [names[n] + names[(n + 1) % 3] for n in range(3)]
    for n, length in enumerate(lengths):
        figure.label_side(points[n], points[(n + 1) % 3], length_label(length, unit),
                          away_from=centre(points))  # fmt: skip
    written = [
        f"{side} = {length_label(length, unit)}"
        for side, length in zip(sides, lengths, strict=True)
    ]
    kind = {1: "equilateral", 2: "isosceles", 3: "scalene"}[len(set(lengths))]
    caption = f"A triangle {names} with the sides {written[0]}, {written[1]} and {written[2]}."
    total = sum(lengths)
    detail = f"{caption} Its perimeter is {length_label(total, unit)}, and it is {kind}."
    where = in_unit(unit)
    asked = [
        ask(rng, "triangle_perimeter", (f"What is the perimeter of the triangle{where}?",
            f"How long are all three sides together{where}?"), str(total)),
        ask(rng, "triangle_sides", (
            "Is the triangle equilateral, isosceles or scalene?",), kind),
        *(ask(rng, "triangle_side", (f"How long is the side {side}{where}?",
              f"What is the length of {side}{where}?"), str(length))
          for side, length in zip(sides, lengths, strict=True)),
    ]  # fmt: skip
    for word, value in (("longest", max(lengths)), ("shortest", min(lengths))):
        words = (f"How long is the {word} side{where}?",)
        asked.append(ask(rng, "triangle_extreme", words, str(value)))
        if lengths.count(value) == 1:
            words = (f"Which side is the {word}?", f"What is the {word} side?")
            asked.append(ask(rng, "triangle_which", words, sides[lengths.index(value)]))
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _random_sides(rng: random.Random) -> tuple[int, int, int]:
    """Returns sides of a triangle that is not too flat to be labelled."""
    while True:
        a = rng.randint(4, 20)
        b = rng.choice((a, rng.randint(4, 20)))
        c = rng.choice((a, rng.randint(4, 20), rng.randint(4, 20)))
        low, middle, high = sorted((a, b, c))
        if high < 0.86 * (low + middle) and low > 0.4 * high:
            return a, b, c


def _right(rng: random.Random) -> Sample:
    """A right triangle with two sides given and the third asked."""
    short, long, hypotenuse = rng.choice(TRIPLES)
    legs = [short, long]
    rng.shuffle(legs)
    unit, names, unknown = rng.choice(UNITS), rng.choice(CORNERS), rng.choice(UNKNOWNS)
    shape = [(0.0, 0.0), (float(legs[0]), 0.0), (0.0, -float(legs[1]))]
    figure, points = _figure(rng, shape)
    figure.mark_right_angle(points[0], points[1], points[2])
    figure.label_corners(points, names)
    lengths = (legs[0], hypotenuse, legs[1])
    hidden = rng.choice((1, 1, 0, 2))
    labels = [unknown if n == hidden else length_label(v, unit) for n, v in enumerate(lengths)]
    sides = [names[n] + names[(n + 1) % 3] for n in range(3)]
    for n, label in enumerate(labels):
        figure.label_side(points[n], points[(n + 1) % 3], label, away_from=centre(points))
    given = " and ".join(f"{sides[n]} = {labels[n]}" for n in range(3) if n != hidden)
    caption = f"A triangle {names} with a right angle at {names[0]} and the sides {given}."
    area = legs[0] * legs[1] // 2
    where, square = in_unit(unit), in_square(unit)
    detail = (
        f"{caption} The side {sides[hidden]}, marked {unknown}, is "
        f"{length_label(lengths[hidden], unit)} by the theorem of Pythagoras. "
        f"The perimeter is {sum(lengths)} and the area {area}."
    )
    asked = [
        ask(rng, "right_side", (f"How long is the side marked {unknown}{where}?",
            f"Find the missing side {sides[hidden]}{where}."), str(lengths[hidden])),
        ask(rng, "right_area", (f"What is the area of the triangle{square}?",), str(area)),
        ask(rng, "right_perimeter", (f"What is the perimeter of the triangle{where}?",),
            str(sum(lengths))),
        ask(rng, "right_corner", ("At which corner is the right angle?",), names[0]),
        ask(rng, "right_hypotenuse", ("Which side is the hypotenuse?",
            "Which side lies opposite the right angle?"), sides[1]),
        *(ask(rng, "triangle_side", (f"How long is the side {sides[n]}{where}?",),
              str(lengths[n])) for n in range(3) if n != hidden),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _height(rng: random.Random) -> Sample:
    """A triangle on its base, with its height dashed."""
    base = rng.randrange(6, 21, 2)
    height = rng.randint(max(3, base // 3), base)
    foot = rng.uniform(0.2, 0.5) * base
    unit = rng.choice(UNITS)
    style = random_style(rng)
    width, tall = rng.randint(240, 330), rng.randint(220, 280)
    shape = [(0.0, 0.0), (float(base), 0.0), (foot, -float(height)), (foot, 0.0)]
    points = fit(shape, width=width, height=tall, margin=40)
    figure = Figure(style, width, tall)
    figure.polygon(points[:3])
    figure.canvas.dashed(points[2], points[3], ink=style.ink)
    figure.mark_right_angle(points[3], points[1], points[2], size=9)
    figure.label_side(points[0], points[1], length_label(base, unit), away_from=points[2])
    # Low beside the height, where the triangle is wide.
    x, y = points[3][0] + 6, 0.7 * points[3][1] + 0.3 * points[2][1]
    label = length_label(height, unit)
    figure.canvas.text(x, y, label, letters=style.letters, anchor="lm")
    square, where = in_square(unit), in_unit(unit)
    caption = (
        f"A triangle with a base of {length_label(base, unit)} and "
        f"a dashed height of {length_label(height, unit)}."
    )
    area = base * height // 2
    detail = f"{caption} Its area is half of {base} times {height}, which is {area}."
    asked = [
        ask(rng, "triangle_area", (f"What is the area of the triangle{square}?",
            f"How large is the triangle{square}?"), str(area)),
        ask(rng, "triangle_base", (f"How long is the base{where}?",
            f"What is the length of the base{where}?"), str(base)),
        ask(rng, "triangle_height", (f"How high is the triangle{where}?",
            f"How long is the dashed line{where}?"), str(height)),
        ask(rng, "triangle_product", (
            "What is the base times the height?",), str(base * height)),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


make = one_of(_angles, _angles, _sides, _right, _height)
