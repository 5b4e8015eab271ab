"""Text in, its picture out, kept for the next time: many short labels are drawn again and again.

write(pen, 100, 20, "Save", size=13, tint=(0, 0, 0), anchor="middle")

          |<- x
+---------+---------+
|        Save       |  <- y
+-------------------+
"""

from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.synth.kit.world import Colour

Anchor = Literal["left", "middle", "right"]
# The share of a text's width that lies left of the point it is written at.
SHARES: dict[Anchor, float] = {"left": 0.0, "middle": 0.5, "right": 1.0}


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the built-in font in a size, in pixels."""
    face = ImageFont.load_default(size=size)
    assert isinstance(face, ImageFont.FreeTypeFont)
    return face


@lru_cache(maxsize=8192)
def mask(text: str, *, size: int) -> PillowImage:
    """Draw a text's coverage; capitals stand in the middle of its height."""
    face = font(size)
    width, height = round(face.getlength(text)) + 2, round(1.5 * size)
    picture = Image.new("L", (max(1, width), height))
    ImageDraw.Draw(picture).text((1, height / 2 + 0.36 * size), text, 255, font=face, anchor="ls")
    return picture


def text_width(text: str, *, size: int) -> int:
    """Return how wide a text is, in pixels."""
    return mask(text, size=size).width


def write(
    pen: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    tint: Colour,
    anchor: Anchor = "left",
) -> None:
    """Write one line whose middle is at height `y`, before, around or after `x`."""
    ink = mask(text, size=size)
    corner = (round(x - SHARES[anchor] * ink.width), round(y - ink.height / 2))
    pen.bitmap(corner, ink, fill=tint)
