"""Scales to be read: a ruler beside a bar, a thermometer, and a measuring jug.

 ▓▓▓▓▓▓▓▓▓▓▓▓▓
|0|1|2|3|4|5|6|7|8|      "How long is the bar in cm?"  6
"""

import random

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import COLOURS
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import GROUNDS, one_of

DARK = (40, 40, 40)


def _ruler(rng: random.Random) -> Sample:
    """A bar above a ruler; it begins at zero or further on, and ends at a half or a whole."""
    length = rng.randint(8, 14)
    start = rng.choice((0, 0, rng.randint(1, 4)))
    halves = rng.choice((2, 2, 1))
    end = rng.randint((start + 1) * 2, length * 2)
    end -= end % halves
    unit, colour = 24, rng.choice(list(COLOURS))
    canvas = Canvas(length * unit + 50, 130, ground=rng.choice(GROUNDS))
    canvas.rectangle(
        15, 70, length * unit + 36, 112, fill=(250, 228, 165), ink=(120, 95, 40), radius=4
    )
    letters = Letters(size=12)
    for n in range(2 * length + 1):
        x = 25 + n * unit / 2
        canvas.line([(x, 71), (x, 83 if n % 2 == 0 else 78)], ink=DARK)
        if n % 2 == 0:
            canvas.text(x, 94, str(n // 2), letters=letters, anchor="mm")
    left, right = 25 + start * unit, 25 + end * unit / 2
    canvas.rectangle(left, 42, right, 62, fill=COLOURS[colour])
    for x in (left, right):
        canvas.dashed((x, 62), (x, 71), ink=DARK, dash=2)
    long = _half(end - 2 * start)
    caption = f"A {colour} bar above a ruler; it reaches from {start} to {_half(end)} cm."
    detail = f"{caption} So it is {long} cm long. The ruler ends at {length} cm."
    asked = [
        ask(rng, "ruler_length", ("How long is the bar in cm?",
            f"What is the length of the {colour} bar in cm?"), long),
        ask(rng, "ruler_end", ("At which mark of the ruler does the bar end?",), _half(end)),
        ask(rng, "ruler_start", ("At which mark of the ruler does the bar begin?",), str(start)),
        ask(rng, "ruler_colour", ("What colour is the bar?",), colour),
        ask(rng, "ruler_whole", ("What is the last number on the ruler?",
            "How long is the ruler's scale in cm?"), str(length)),
        ask(rng, "ruler_rest", ("How many cm of the scale lie to the right of the bar?",),
            _half(2 * length - end)),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _half(count: int) -> str:
    """Writes a number of halves: 5 -> "2.5", 4 -> "2"."""
    return f"{count // 2}.5" if count % 2 else str(count // 2)


def _thermometer(rng: random.Random) -> Sample:
    """A thermometer in degrees, with a number at every fifth tick."""
    step = rng.choice((1, 2, 2, 4))
    count = rng.randint(4, 6)
    low = 5 * step * rng.choice((-3, -2, -1, -1, 0, 0))
    high = low + 5 * step * count
    ticks = rng.randint(1, 5 * count)
    value = low + step * ticks
    colour = rng.choice(("red", "blue", "purple", "orange", "green"))
    canvas = Canvas(rng.randint(150, 180), 5 * count * 8 + 90, ground=rng.choice(GROUNDS))
    _draw_thermometer(canvas, colour, ticks, [low + 5 * step * n for n in range(count + 1)])
    shift = rng.choice((2, 4, 5, 10))
    caption = f"A thermometer that shows {value}°; its column is {colour}."
    detail = f"{caption} Its scale goes from {low}° to {high}°, with a tick for every {step}°."
    asked = [
        ask(rng, "thermometer_value", ("How many degrees does the thermometer show?",
            "What is the temperature in degrees?"), str(value)),
        ask(rng, "thermometer_warmer", (f"How many degrees is it when it gets {shift} degrees "
            "warmer?",), str(value + shift)),
        ask(rng, "thermometer_colder", (f"How many degrees is it when it gets {shift} degrees "
            "colder?",), str(value - shift)),
        ask(rng, "thermometer_top", ("What is the highest number on the scale?",), str(high)),
        ask(rng, "thermometer_bottom", ("What is the lowest number on the scale?",), str(low)),
        ask(rng, "thermometer_step", ("How many degrees lie between two neighbouring ticks?",),
            str(step)),
        ask(rng, "thermometer_colour", ("What colour is the column?",), colour),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _draw_thermometer(canvas: Canvas, colour: str, ticks: int, numbers: list[int]) -> None:
    """Draws a thermometer whose column reaches a tick; every fifth tick has a number."""
    pitch, top = 8, 30
    bottom = top + 5 * (len(numbers) - 1) * pitch
    x, tint = canvas.width / 2 - 15, COLOURS[colour]
    canvas.rectangle(x - 9, top - 14, x + 9, bottom + 24, fill=(255, 255, 255), ink=DARK, radius=9)
    canvas.circle(x, bottom + 26, 17, fill=(255, 255, 255), ink=DARK)
    canvas.rectangle(x - 4, bottom - ticks * pitch, x + 4, bottom + 26, fill=tint)
    canvas.circle(x, bottom + 26, 13, fill=tint)
    for n in range(5 * len(numbers) - 4):
        y = bottom - n * pitch
        canvas.line([(x + 10, y), (x + (22 if n % 5 == 0 else 16), y)], ink=DARK)
        if n % 5 == 0:
            number = f"{numbers[n // 5]}°"
            canvas.text(x + 28, y, number, letters=Letters(size=13), anchor="lm")


def _jug(rng: random.Random) -> Sample:
    """A measuring jug, filled to one of its lines."""
    step = rng.choice((10, 20, 50, 100, 250))
    lines = rng.randint(4, 9)
    level = rng.randint(1, lines)
    pitch = rng.randint(17, 24)
    colour = rng.choice(list(COLOURS))
    width = rng.randint(90, 120)
    top, left = 24, 40
    bottom = top + (lines + 1) * pitch
    canvas = Canvas(left + width + 80, bottom + 26, ground=rng.choice(GROUNDS))
    canvas.rectangle(left, bottom - level * pitch, left + width, bottom, fill=COLOURS[colour])
    walls = [(left, top - 6), (left, bottom), (left + width, bottom), (left + width, top - 6)]
    canvas.line(walls, ink=DARK, thickness=2.5)
    letters = Letters(size=13)
    for n in range(1, lines + 1):
        y = bottom - n * pitch
        canvas.line([(left + width - 16, y), (left + width, y)], ink=DARK, thickness=1.5)
        canvas.text(left + width + 8, y, f"{n * step} ml", letters=letters, anchor="lm")
    value, full = level * step, lines * step
    caption = f"A measuring jug filled with something {colour} up to the line of {value} ml."
    detail = f"{caption} The lines are {step} ml apart, and the highest stands for {full} ml."
    asked = [
        ask(rng, "jug_value", ("How many ml are in the jug?", "Up to how many ml is the jug "
            "filled?"), str(value)),
        ask(rng, "jug_full", ("Which number of ml does the highest line stand for?",), str(full)),
        ask(rng, "jug_step", ("How many ml lie between two neighbouring lines?",), str(step)),
        ask(rng, "jug_half", ("How many ml are left when half of it is poured out?",),
            str(value // 2)),
        ask(rng, "jug_lines", ("How many lines does the jug have?",), str(lines)),
        ask(rng, "jug_colour", ("What colour is the liquid?",), colour),
    ]  # fmt: skip
    if level < lines:
        words = ("How many ml are missing up to the highest line?",)
        asked.append(ask(rng, "jug_missing", words, str(full - value)))
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


make = one_of(_ruler, _thermometer, _jug)
