"""Processes, such as a glass being filled, and how far they are -> a picture.

|   |   |   |   |███|       a glass is filled, a candle burns down, a tower is built,
|   |   |███|   |███|       the sun rises, the moon waxes, a plant grows, ...
|███|   |███|   |███|
 0.2     0.6     1.0        how far it is
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.shapes import COLOURS, Colour


@dataclass(frozen=True, kw_only=True)
class Process:
    """Something that happens, forward or backward.

    `forward` and `backward` are its verbs; `most` and `least` describe its ends, as in "In which
    picture is the glass `most`?"; `part` is what has the colour.
    """

    noun: str
    part: str
    forward: str
    backward: str
    most: str
    least: str
    draw: Callable[["Drawing"], None]


@dataclass(frozen=True, kw_only=True)
class ProcessStyle:
    """What all pictures of a process have in common: their size and colours."""

    side: int
    ground: Colour
    ink: Colour
    colour: str
    tint: Colour


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture being drawn, at twice its final size."""

    pen: ImageDraw.ImageDraw
    side: float
    share: float
    style: ProcessStyle

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        """Turns shares of the side into pixels."""
        side = self.side
        return x0 * side, y0 * side, x1 * side, y1 * side

    def points(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        """Turns points in shares of the side into pixels."""
        return [(x * self.side, y * self.side) for x, y in points]


GROUNDS: tuple[Colour, ...] = ((250, 250, 248), (232, 238, 242), (244, 240, 228), (228, 232, 224))


def random_style(rng: random.Random) -> ProcessStyle:
    """Chooses a size, a light ground and a colour."""
    colour = rng.choice(list(COLOURS))
    return ProcessStyle(
        side=rng.randint(98, 150),
        ground=rng.choice(GROUNDS),
        ink=(50, 50, 55),
        colour=colour,
        tint=COLOURS[colour],
    )


def draw_stage(process: Process, share: float, style: ProcessStyle) -> PillowImage:
    """Draws a process when `share` of it is done."""
    fine = 2 * style.side
    picture = Image.new("RGB", (fine, fine), style.ground)
    process.draw(Drawing(pen=ImageDraw.Draw(picture), side=fine, share=share, style=style))
    return picture.reduce(2)


def _glass(s: Drawing) -> None:
    """Fills a glass from the bottom."""
    s.pen.rectangle(s.box(0.3, 0.9 - 0.7 * s.share, 0.7, 0.9), fill=s.style.tint)
    s.pen.line(
        s.points((0.3, 0.15), (0.3, 0.9), (0.7, 0.9), (0.7, 0.15)), fill=s.style.ink, width=5
    )


def _bar(s: Drawing) -> None:
    """Fills a bar from the left."""
    s.pen.rectangle(s.box(0.1, 0.4, 0.1 + 0.8 * s.share, 0.6), fill=s.style.tint)
    s.pen.rectangle(s.box(0.1, 0.4, 0.9, 0.6), outline=s.style.ink, width=4)


def _candle(s: Drawing) -> None:
    """Shortens a burning candle."""
    top = 0.85 - 0.55 * (1 - s.share) - 0.06
    s.pen.rectangle(s.box(0.38, top, 0.62, 0.85), fill=s.style.tint)
    s.pen.rectangle(s.box(0.25, 0.85, 0.75, 0.91), fill=s.style.ink)
    s.pen.line(s.points((0.5, top), (0.5, top - 0.05)), fill=s.style.ink, width=4)
    s.pen.ellipse(s.box(0.455, top - 0.16, 0.545, top - 0.03), fill=(250, 170, 30))
    s.pen.ellipse(s.box(0.48, top - 0.09, 0.52, top - 0.035), fill=(255, 240, 150))


def _balloon(s: Drawing) -> None:
    """Widens a balloon on its string."""
    radius = 0.07 + 0.29 * s.share
    bottom = 0.8
    s.pen.line(s.points((0.5, bottom), (0.5, 0.97)), fill=s.style.ink, width=3)
    box = s.box(0.5 - radius, bottom - 2 * radius, 0.5 + radius, bottom)
    s.pen.ellipse(box, fill=s.style.tint)
    s.pen.polygon(s.points((0.5, 0.78), (0.465, 0.84), (0.535, 0.84)), fill=s.style.tint)


def _tower(s: Drawing) -> None:
    """Piles up blocks."""
    for k in range(max(1, round(12 * s.share))):
        y, shift = 0.92 - 0.07 * k, 0.012 * (-1) ** k
        box = s.box(0.35 + shift, y - 0.07, 0.65 + shift, y)
        s.pen.rectangle(box, fill=s.style.tint, outline=s.style.ink, width=3)
    s.pen.rectangle(s.box(0.1, 0.92, 0.9, 0.95), fill=s.style.ink)


def _sun(s: Drawing) -> None:
    """Raises the sun above the ground that hides it."""
    y = 0.86 - 0.64 * s.share
    s.pen.ellipse(s.box(0.36, y - 0.14, 0.64, y + 0.14), fill=(250, 190, 40))
    s.pen.rectangle(s.box(0, 0.76, 1, 1), fill=s.style.tint)


def _moon(s: Drawing) -> None:
    """Lights the right part of a disc, bounded by half an ellipse."""
    s.pen.rectangle(s.box(0, 0, 1, 1), fill=(18, 20, 45))
    full = s.box(0.2, 0.2, 0.8, 0.8)
    light: Colour = (240, 235, 205)
    dark: Colour = (48, 50, 72)
    s.pen.ellipse(full, fill=dark)
    s.pen.pieslice(full, -90, 90, fill=light)
    inner = 0.3 * abs(1 - 2 * s.share)
    s.pen.ellipse(s.box(0.5 - inner, 0.2, 0.5 + inner, 0.8), fill=dark if s.share < 0.5 else light)


def _plant(s: Drawing) -> None:
    """Lets a plant grow leaf by leaf out of its pot."""
    top = 0.82 - 0.7 * s.share
    s.pen.line(s.points((0.5, 0.82), (0.5, top)), fill=(60, 130, 60), width=6)
    y, side = 0.76, 1
    while y > top + 0.03:
        x0, x1 = sorted((0.5, 0.5 + 0.19 * side))
        s.pen.ellipse(s.box(x0, y - 0.045, x1, y + 0.045), fill=(70, 160, 70))
        y, side = y - 0.09, -side
    s.pen.polygon(s.points((0.36, 0.8), (0.64, 0.8), (0.59, 0.96), (0.41, 0.96)), fill=s.style.tint)


def _cake(s: Drawing) -> None:
    """Draws what is left of a round cake, cut into twelve."""
    left = max(1, round(12 * (1 - s.share)))
    box = s.box(0.12, 0.12, 0.88, 0.88)
    s.pen.ellipse(s.box(0.06, 0.06, 0.94, 0.94), fill=(215, 218, 222))
    for k in range(left):
        start = -90 + 30 * k
        s.pen.pieslice(box, start, start + 30, fill=s.style.tint, outline=s.style.ink, width=3)


def _clock(s: Drawing) -> None:
    """Turns the hand of a clock."""
    hour = math.radians(30 + 300 * s.share)
    s.pen.ellipse(s.box(0.1, 0.1, 0.9, 0.9), fill=(255, 255, 255), outline=s.style.ink, width=6)
    for k in range(12):
        dx, dy = math.sin(k * math.pi / 6), -math.cos(k * math.pi / 6)
        inner = 0.31 if k % 3 == 0 else 0.34
        ends = s.points((0.5 + inner * dx, 0.5 + inner * dy), (0.5 + 0.38 * dx, 0.5 + 0.38 * dy))
        s.pen.line(ends, fill=s.style.ink, width=3)
    hand = (0.5 + 0.27 * math.sin(hour), 0.5 - 0.27 * math.cos(hour))
    s.pen.line(s.points((0.5, 0.5), hand), fill=s.style.tint, width=9)
    s.pen.ellipse(s.box(0.47, 0.47, 0.53, 0.53), fill=s.style.ink)


def _thermometer(s: Drawing) -> None:
    """Raises the liquid of a thermometer."""
    top = 0.72 - 0.58 * s.share
    s.pen.rounded_rectangle(
        s.box(0.44, 0.08, 0.56, 0.8), radius=0.06 * s.side, outline=s.style.ink, width=4
    )
    s.pen.ellipse(s.box(0.4, 0.72, 0.6, 0.92), fill=s.style.tint, outline=s.style.ink, width=4)
    s.pen.rectangle(s.box(0.475, top, 0.525, 0.8), fill=s.style.tint)
    for k in range(7):
        y = 0.16 + 0.09 * k
        s.pen.line(s.points((0.6, y), (0.66, y)), fill=s.style.ink, width=3)


def _car(s: Drawing) -> None:
    """Drives a car along a road."""
    x = 0.02 + 0.68 * s.share
    s.pen.rectangle(s.box(0, 0.72, 1, 0.78), fill=(120, 120, 120))
    s.pen.rectangle(s.box(x, 0.54, x + 0.28, 0.66), fill=s.style.tint)
    s.pen.rectangle(s.box(x + 0.06, 0.44, x + 0.22, 0.56), fill=s.style.tint)
    s.pen.rectangle(s.box(x + 0.09, 0.47, x + 0.19, 0.54), fill=s.style.ground)
    for wheel in (x + 0.07, x + 0.21):
        s.pen.ellipse(s.box(wheel - 0.045, 0.62, wheel + 0.045, 0.71), fill=s.style.ink)


def _curtain(s: Drawing) -> None:
    """Opens two curtains in front of a window."""
    s.pen.rectangle(s.box(0.1, 0.15, 0.9, 0.9), fill=(175, 215, 240), outline=s.style.ink, width=5)
    width = 0.4 * (1 - 0.9 * s.share)
    s.pen.rectangle(s.box(0.1, 0.15, 0.1 + width, 0.9), fill=s.style.tint)
    s.pen.rectangle(s.box(0.9 - width, 0.15, 0.9, 0.9), fill=s.style.tint)
    s.pen.rectangle(s.box(0.05, 0.1, 0.95, 0.15), fill=s.style.ink)


def _process(draw: Callable[[Drawing], None], noun: str, part: str, *words: str) -> Process:
    """Returns a row of the table of processes."""
    forward, backward, most, least = words
    return Process(
        noun=noun, part=part, forward=forward, backward=backward, most=most, least=least, draw=draw
    )


# Without `backward`, a process only goes forward: a candle does not grow.
PROCESSES: tuple[Process, ...] = (
    _process(_glass, "glass", "drink", "is filled", "is emptied", "fullest", "emptiest"),
    _process(_bar, "bar", "bar", "is filled", "is emptied", "fullest", "emptiest"),
    _process(_candle, "candle", "candle", "burns down", "", "shortest", "tallest"),
    _process(_balloon, "balloon", "balloon", "is blown up", "loses its air", "largest", "smallest"),
    _process(_tower, "tower", "tower", "is built", "is taken down", "tallest", "lowest"),
    _process(_sun, "sun", "ground", "rises", "sets", "highest", "lowest"),
    _process(_moon, "moon", "", "waxes", "wanes", "fullest", "thinnest"),
    _process(_plant, "plant", "pot", "grows", "", "tallest", "smallest"),
    _process(_cake, "cake", "cake", "is eaten", "", "eaten the most", "eaten the least"),
    _process(_clock, "clock", "hand", "runs from one to eleven", "", "latest", "earliest"),
    _process(_thermometer, "thermometer", "liquid", "rises", "falls", "highest", "lowest"),
    _process(_car, "car", "car", "drives to the right", "rolls back to the left",
             "farthest to the right", "farthest to the left"),
    _process(_curtain, "curtain", "curtain", "is opened", "is closed", "widest open",
             "most nearly closed"),
)  # fmt: skip
