"""Clocks: one that shows a time, or two between which some time passes."""

import random

from onevision.synth.kit.canvas import WHITE, Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.shapes import Colour, Point
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Sample, ask
from onevision.synth.worlds.diagrams.figure import GROUNDS, INKS, one_of, towards

FACES: tuple[Colour, ...] = (WHITE, (253, 245, 222), (228, 240, 250), (238, 246, 232))
HALF_DAY = 12 * 60


def _one(rng: random.Random) -> Sample:
    step = rng.choice((5, 5, 5, 1))
    minutes = rng.randrange(0, HALF_DAY, step)
    side = rng.randint(200, 250) if step == 1 else rng.randint(160, 250)
    canvas = Canvas(side, side, ground=rng.choice(GROUNDS))
    _draw_clock(rng, canvas, (side / 2, side / 2), 0.44 * side, minutes, fine=step == 1)
    time, past = clock_time(minutes), minutes % 60
    caption = f"A clock that shows {time}."
    later = rng.choice((15, 20, 30, 45, 60, 90, 120))
    earlier = rng.choice((10, 15, 30, 60))
    to_hour = (60 - past) % 60
    detail = (
        f"{caption} The hour hand is {_hour_hand(minutes)}, the minute hand points at "
        f"{past} minutes. Half an hour later it is {clock_time(minutes + 30)}."
    )
    asked = [
        ask(rng, "clock_time", ("What time is it?", "Which time does the clock show?",
            "What is the time on the clock?"), time),
        ask(rng, "clock_later", (f"What time will it be in {later} minutes?",
            f"Which time does the clock show {later} minutes later?"),
            clock_time(minutes + later)),
        ask(rng, "clock_earlier", (f"What time was it {earlier} minutes ago?",
            f"Which time did the clock show {earlier} minutes earlier?"),
            clock_time(minutes - earlier)),
        ask(rng, "clock_past", ("How many minutes past the full hour is it?",), str(past)),
        ask(rng, "clock_hour", ("Which full hour has passed last?",
            "Which hour has begun on the clock?"), time.split(":")[0]),
    ]  # fmt: skip
    if past % 5 == 0:
        words = ("At which number does the minute hand point?",
                 "Where on the dial, from 1 to 12, does the long hand point?")  # fmt: skip
        asked.append(ask(rng, "clock_minute_hand", words, str(past // 5 or 12)))
    if to_hour:
        words = ("How many minutes are left until the next full hour?",)
        asked.append(ask(rng, "clock_left", words, str(to_hour)))
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def _two(rng: random.Random) -> Sample:
    start = rng.randrange(0, HALF_DAY, 5)
    passed = rng.randrange(10, 300, 5)
    radius = rng.randint(72, 92)
    labels = rng.choice((("start", "end"), ("from", "to"), ("open", "closed"), ("A", "B")))
    canvas = Canvas(4 * radius + 60, 2 * radius + 60, ground=rng.choice(GROUNDS))
    letters = Letters(size=15)
    for n, minutes in enumerate((start, start + passed)):
        at = (20 + radius + n * (2 * radius + 20), 15 + radius)
        _draw_clock(rng, canvas, at, radius, minutes, fine=False)
        canvas.text(at[0], at[1] + radius + 18, labels[n], letters=letters, anchor="mm")
    first, second = clock_time(start), clock_time(start + passed)
    caption = (
        f"Two clocks: the left one, labelled {labels[0]}, shows {first}, "
        f"the right one, labelled {labels[1]}, shows {second}."
    )
    detail = f"{caption} From the first to the second time, {passed} minutes pass."
    asked = [
        ask(rng, "clocks_time", ("Which time does the left clock show?",
            f"What is the time on the clock labelled {labels[0]}?"), first),
        ask(rng, "clocks_time", ("Which time does the right clock show?",
            f"What is the time on the clock labelled {labels[1]}?"), second),
        ask(rng, "clocks_passed", (
            "How many minutes pass from the left clock to the right one within half a day?",
            "How many minutes after the left clock is the right one, within half a day?"),
            str(passed)),
        ask(rng, "clocks_label", ("What is written below the left clock?",), labels[0]),
        ask(rng, "clocks_label", ("What is written below the right clock?",), labels[1]),
        ask(rng, "clocks_later", ("Which time is half an hour after the right clock's time?",),
            clock_time(start + passed + 30)),
    ]  # fmt: skip
    return picture_sample(rng, canvas.picture(), caption=caption, detail=detail, asked=asked)


def clock_time(minutes: int) -> str:
    """Returns minutes after twelve as a clock's time: "3:05"."""
    hours, rest = divmod(minutes % HALF_DAY, 60)
    return f"{hours or 12}:{rest:02d}"


def _hour_hand(minutes: int) -> str:
    hour = minutes // 60 % 12 or 12
    return f"at {hour}" if minutes % 60 == 0 else f"between {hour} and {hour % 12 + 1}"


def _draw_clock(
    rng: random.Random, canvas: Canvas, at: Point, radius: float, minutes: int, *, fine: bool
) -> None:
    """Draws a clock's face and hands; `fine` draws a tick for every minute."""
    ink = rng.choice(INKS)
    canvas.circle(*at, radius, fill=rng.choice(FACES), ink=ink, thickness=rng.choice((2, 3, 4)))
    numerals = rng.choice(("all", "all", "four", "none"))
    letters = Letters(size=round(radius * 0.17))
    for tick in range(60):
        if fine or tick % 5 == 0:
            length = 0.09 if tick % 5 == 0 else 0.045
            ends = [towards(at, 6 * tick, radius * share) for share in (0.95, 0.95 - length)]
            canvas.line(ends, ink=ink, thickness=2 if tick % 5 == 0 else 1)
    for hour in range(1, 13):
        if numerals == "all" or (numerals == "four" and hour % 3 == 0):
            place = towards(at, 30 * hour - 90, 0.75 * radius)
            canvas.text(*place, str(hour), letters=letters, anchor="mm", ink=ink)
    hands = rng.choice((ink, (25, 25, 25)))
    hour_angle, minute_angle = 0.5 * (minutes % HALF_DAY) - 90, 6 * (minutes % 60) - 90
    for degrees, reach, thickness in ((hour_angle, 0.46, 5), (minute_angle, 0.86, 2.5)):
        start = towards(at, degrees, -0.08 * radius)
        canvas.line([start, towards(at, degrees, reach * radius)], ink=hands, thickness=thickness)
    canvas.circle(*at, 4, fill=hands)


make = one_of(_one, _one, _one, _two)
