"""A shape in, its smooth picture out, kept for the next frame: clips draw the same things often.

stamp(canvas, "star", (215, 35, 35), x=40, y=30, radius=12)

           radius
         |<------>|
. . . . . . . * . . . . . . .      edges are averaged from pixels three times as fine
"""

import random
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.world import COLOURS, SHAPES, Colour

# The widest of the world's shapes reach this much farther than their radius.
REACH = 1.12
SUPERSAMPLING = 3


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a thing of a clip looks like wherever it is."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        """Colour and shape: "red circle"."""
        return f"{self.colour} {self.shape}"

    def stamp(self, canvas: PillowImage, *, x: float, y: float, radius: float) -> None:
        """Draw the figure around a point, in pixels."""
        stamp(canvas, self.shape, COLOURS[self.colour], x=x, y=y, radius=radius)


def random_figures(rng: random.Random, count: int) -> list[Figure]:
    """Choose figures that differ pairwise in colour and in shape."""
    colours, shapes = rng.sample(list(COLOURS), count), rng.sample(list(SHAPES), count)
    return [Figure(colour=c, shape=s) for c, s in zip(colours, shapes, strict=True)]


@lru_cache(maxsize=1024)
def shape_mask(shape: str, *, radius: int) -> PillowImage:
    """Return how much of every pixel a shape covers."""
    side = 2 * (round(radius * REACH) + 1)
    mask = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING), 0)
    middle = (mask.width - 1) / 2
    SHAPES[shape](ImageDraw.Draw(mask), (middle, middle), radius * SUPERSAMPLING, 255, 0)
    return mask.reduce(SUPERSAMPLING)


def stamp(
    canvas: PillowImage, shape: str, tint: Colour, *, x: float, y: float, radius: float
) -> None:
    """Draw a shape around a point; what lies outside of the canvas is cut off."""
    mask = shape_mask(shape, radius=max(2, round(radius)))
    canvas.paste(tint, (round(x - mask.width / 2), round(y - mask.height / 2)), mask)
