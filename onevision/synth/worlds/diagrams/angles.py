"""Angles at a point: on a straight line, inside a right angle, and where two lines cross."""

import random

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import Point
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import Figure, one_of, random_style, towards

UNKNOWNS = "xyzwv"


def _fan(rng: random.Random) -> Sample:
    """Two or three angles that make a straight or a right angle, one of them unknown."""
    whole = rng.choice((180, 180, 90))
    count = rng.choice((2, 3)) if whole == 180 else 2
    angles = _split(rng, whole, count, least=38 if whole == 180 else 30)
    hidden, unknown = rng.randrange(count), rng.choice(UNKNOWNS)
    labels = [unknown if n == hidden else f"{angle}°" for n, angle in enumerate(angles)]
    figure = _draw_fan(rng, whole, angles, labels)
    place = "on a straight line" if whole == 180 else "inside a right angle"
    given = [angle for n, angle in enumerate(angles) if n != hidden]
    known = " and ".join(f"{angle}°" for angle in given)
    caption = f"{count} angles {place}: {known}, and an unknown one marked {unknown}."
    answer = angles[hidden]
    detail = f"{caption} Together they make {whole}°, so the unknown angle is {answer}°."
    kind = "acute" if answer < 90 else "right" if answer == 90 else "obtuse"
    asked = [
        ask(rng, "fan_angle", (f"How many degrees is the angle {unknown}?",
            "What is the unknown angle in degrees?"), str(answer)),
        ask(rng, "fan_given", ("How many degrees do the given angles make together?",
            "What do the angles that are given add up to in degrees?"), str(sum(given))),
        ask(rng, "fan_count", ("How many angles are marked with an arc?",), str(count)),
        ask(rng, "fan_unknown", ("Which sign stands for the unknown angle?",
            "With what is the unknown angle marked?"), unknown),
        ask(rng, "fan_largest", ("What is the largest of all the angles in degrees?",),
            str(max(angles))),
        ask(rng, "fan_least", ("What is the smallest of all the angles in degrees?",),
            str(min(angles))),
    ]  # fmt: skip
    if whole == 180:
        words = ("Is the unknown angle acute, right or obtuse?",)
        asked.append(ask(rng, "fan_kind", words, kind))
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_fan(rng: random.Random, whole: int, angles: list[int], labels: list[str]) -> Figure:
    """Draws angles side by side, from one arm of the whole to the other."""
    straight = whole == 180
    width, height = (300, 190) if straight else (240, 225)
    figure = Figure(random_style(rng), width, height)
    at = (150.0, 160.0) if straight else (40.0, 195.0)
    turn, reach = (180, 130) if straight else (270, 165)
    arms = [towards(at, turn + sum(angles[:n]), reach) for n in range(len(angles) + 1)]
    for arm in arms:
        figure.line(at, arm)
    for n, label in enumerate(labels):
        figure.mark_angle(at, arms[n], arms[n + 1], label, radius=30 if straight else 40)
    if not straight:
        figure.mark_right_angle(at, arms[0], arms[-1], size=14)
    figure.dot(at)
    return figure


def _split(rng: random.Random, whole: int, count: int, *, least: int) -> list[int]:
    while True:
        cuts = sorted(rng.sample(range(1, whole), count - 1))
        angles = [b - a for a, b in zip([0, *cuts], [*cuts, whole], strict=True)]
        if min(angles) >= least:
            return angles


def _crossing(rng: random.Random) -> Sample:
    """Two lines that cross, one angle given, two others asked."""
    angle = rng.choice([a for a in range(40, 141) if a != 90])
    names = rng.choice((("x", "y"), ("a", "b"), ("p", "q"), ("s", "t")))
    figure = Figure(random_style(rng), rng.randint(240, 290), rng.randint(220, 250))
    at = (figure.canvas.width / 2, figure.canvas.height / 2)
    turn = rng.randrange(360)
    ends = [towards(at, turn + d, 95) for d in (0, angle, 180, 180 + angle)]
    figure.line(ends[0], ends[2])
    figure.line(ends[1], ends[3])
    beside, opposite = names
    figure.mark_angle(at, ends[0], ends[1], f"{angle}°")
    figure.mark_angle(at, ends[1], ends[2], beside, radius=26)
    figure.mark_angle(at, ends[2], ends[3], opposite)
    caption = (
        f"Two lines cross. One angle is {angle}°; two more are marked {beside} and {opposite}."
    )
    detail = (
        f"{caption} {opposite} lies opposite the given angle, so it is {angle}° too; "
        f"{beside} lies beside it and is {180 - angle}°."
    )
    asked = [
        ask(rng, "crossing_beside", (f"How many degrees is the angle {beside}?",
            f"What is {beside} in degrees?"), str(180 - angle)),
        ask(rng, "crossing_opposite", (f"How many degrees is the angle {opposite}?",
            f"What is {opposite} in degrees?"), str(angle)),
        ask(rng, "crossing_given", ("Which angle is given in degrees?",
            "How many degrees does the labelled angle have?"), str(angle)),
        ask(rng, "crossing_larger", (f"Which angle is larger, {beside} or {opposite}?",),
            opposite if angle > 90 else beside),
        ask(rng, "crossing_difference", (
            f"By how many degrees do {beside} and {opposite} differ?",), str(abs(180 - 2 * angle))),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _parallels(rng: random.Random) -> Sample:
    """Two parallel lines cut by a third: an angle is given at one and asked at the other."""
    angle = rng.choice([a for a in range(50, 131) if a != 90])
    unknown = rng.choice(UNKNOWNS)
    names = rng.choice((("g", "h"), ("k", "m"), ("a", "b"), ("r", "t")))
    given, asked_at = rng.sample((0, 1), 2)
    same_side = rng.random() < 0.5
    labels = [f"{angle}°", unknown] if given == 0 else [unknown, f"{angle}°"]
    other_side = None if same_side else asked_at
    figure = _draw_parallels(rng, angle, names, labels, other_side)
    answer = angle if same_side else 180 - angle
    reason = "it is as large as" if same_side else "it makes 180° with"
    caption = (
        f"Two parallel lines {names[0]} and {names[1]} are cut by a third line. An angle of "
        f"{angle}° is given at {names[given]}, and one at {names[asked_at]} is marked {unknown}."
    )
    detail = f"{caption} The angle {unknown} is {answer}°, for {reason} the given angle."
    asked = [
        ask(rng, "parallel_angle", (f"How many degrees is the angle {unknown}?",
            "What is the unknown angle in degrees?"), str(answer)),
        ask(rng, "parallel_given", ("Which angle is given in degrees?",
            "How many degrees does the labelled angle have?"), str(angle)),
        ask(rng, "parallel_line", ("At which of the two parallel lines is the unknown angle?",
            f"Which line has the angle {unknown}?"), names[asked_at]),
        ask(rng, "parallel_neighbour", (
            f"How many degrees is the angle beside the given one on line {names[given]}?",),
            str(180 - angle)),
        ask(rng, "parallel_kind", (f"Is the angle {unknown} acute or obtuse?",),
            "acute" if answer < 90 else "obtuse"),
    ]  # fmt: skip
    return picture_sample(rng, figure.picture(), caption=caption, detail=detail, asked=asked)


def _draw_parallels(
    rng: random.Random, angle: int, names: tuple[str, str], labels: list[str],
    other_side: int | None,
) -> Figure:  # fmt: skip
    """Draws two parallel lines and a third; the angle of line `other_side` opens to the left."""
    figure = Figure(random_style(rng), 300, 250)
    rows = (80.0, 175.0)
    slope = towards((0.0, 0.0), -angle, 1)

    def cut(y: float) -> Point:
        return 150 + slope[0] / slope[1] * (y - sum(rows) / 2), y

    figure.line(cut(20), cut(235))
    for n, y in enumerate(rows):
        figure.line((20, y), (270, y))
        figure.write((284, y), names[n])
        arm = (20 if n == other_side else 270, y)
        figure.mark_angle(cut(y), arm, cut(20), labels[n])
    return figure


make = one_of(_fan, _fan, _crossing, _parallels)
