"""Named colours and shapes, and how shapes are drawn: straight, or as smooth stamps kept for reuse.

stamp(picture, "star", (215, 35, 35), x=40, y=30, radius=12)

           radius
         |<------>|
. . . . . . . * . . . . . . .      edges are averaged from pixels three times as fine
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (215, 35, 35),
    "orange": (245, 140, 25),
    "yellow": (250, 220, 45),
    "green": (40, 155, 65),
    "blue": (35, 85, 215),
    "purple": (125, 50, 170),
    "pink": (245, 145, 190),
    "brown": (130, 80, 45),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring")
# No shape reaches farther from its centre than this, in units of its radius.
REACH = 1.12
SUPERSAMPLING = 3


def _star() -> list[Point]:
    turns = [(1.1 if k % 2 == 0 else 0.45, k * math.pi / 5) for k in range(10)]
    return [(reach * math.sin(turn), -reach * math.cos(turn)) for reach, turn in turns]


# Corners in units of the radius.
_POLYGONS: Mapping[str, list[Point]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (1, 0.85), (-1, 0.85)],
    "star": _star(),
    "cross": [
        (-.35, -1), (.35, -1), (.35, -.35), (1, -.35), (1, .35), (.35, .35),
        (.35, 1), (-.35, 1), (-.35, .35), (-1, .35), (-1, -.35), (-.35, -.35),
    ],
    "diamond": [(0, -1.1), (0.75, 0), (0, 1.1), (-0.75, 0)],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a thing looks like, wherever it is: its colour and its shape."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        """Colours and shape: "red circle"."""
        return f"{self.colour} {self.shape}"

    def stamp(self, picture: PillowImage, *, x: float, y: float, radius: float) -> None:
        """Draws the shape around a point, in pixels."""
        stamp(picture, self.shape, COLOURS[self.colour], x=x, y=y, radius=radius)


def random_looks(rng: random.Random, count: int) -> list[Look]:
    """Chooses looks that differ pairwise in colour and in shape."""
    colours, shapes = rng.sample(list(COLOURS), count), rng.sample(SHAPES, count)
    return [Look(colour=c, shape=s) for c, s in zip(colours, shapes, strict=True)]


def shift_tint(colour: Colour, shift: int) -> Colour:
    """Lightens a colour, or darken it by a negative shift."""
    red, green, blue = (min(255, max(0, value + shift)) for value in colour)
    return red, green, blue


def draw_shape(
    pen: ImageDraw.ImageDraw,
    shape: str,
    centre: Point,
    radius: float,
    *,
    fill: Colour | int,
    ground: Colour | int,
) -> None:
    """Draws a shape; `ground` fills the hole of a ring."""
    x, y = centre
    if shape in _POLYGONS:
        pen.polygon([(x + a * radius, y + b * radius) for a, b in _POLYGONS[shape]], fill=fill)
        return
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    if shape == "ring":
        half = radius * 0.5
        pen.ellipse((x - half, y - half, x + half, y + half), fill=ground)


def lay_shape(
    picture: PillowImage, shape: str, centre: Point, radius: float, *, tint: Colour
) -> None:
    """Draws a shape over a picture, which shows through the hole of a ring."""
    if shape != "ring":
        draw_shape(ImageDraw.Draw(picture), shape, centre, radius, fill=tint, ground=tint)
        return
    cover = Image.new("L", picture.size)
    draw_shape(ImageDraw.Draw(cover), shape, centre, radius, fill=255, ground=0)
    picture.paste(tint, mask=cover)


def stamp(
    picture: PillowImage, shape: str, tint: Colour, *, x: float, y: float, radius: float
) -> None:
    """Draws a smooth shape around a point; what lies outside the picture is cut off."""
    mask = _mask(shape, radius=max(2, round(radius)))
    picture.paste(tint, (round(x - mask.width / 2), round(y - mask.height / 2)), mask)


@lru_cache(maxsize=1024)
def _mask(shape: str, *, radius: int) -> PillowImage:
    """Returns how much of each pixel a shape covers."""
    side = 2 * (round(radius * REACH) + 1)
    mask = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING), 0)
    middle = (mask.width - 1) / 2
    pen = ImageDraw.Draw(mask)
    draw_shape(pen, shape, (middle, middle), radius * SUPERSAMPLING, fill=255, ground=0)
    return mask.reduce(SUPERSAMPLING)
