"""A picture and the boxes and points of an answer -> a copy of it with them drawn, numbered."""

from collections.abc import Sequence

from PIL import ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.boxes import Box, Point

# Colours that people with any colour vision can tell apart (Okabe and Ito), one after the other.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
# The width of a line, as a share of the shorter side; at least so many pixels.
LINE, LEAST = 1 / 160, 2


def draw_marks(picture: PillowImage, marks: Sequence[Box | Point]) -> PillowImage:
    """Returns an RGB copy of a picture with every box and point drawn and, if several, numbered."""
    drawn = picture.convert("RGB")
    if drawn is picture:
        drawn = picture.copy()
    pen = ImageDraw.Draw(drawn)
    width = max(LEAST, round(LINE * min(drawn.size)))
    for number, mark in enumerate(marks):
        colour = COLOURS[number % len(COLOURS)]
        corner = _draw(pen, mark, drawn.size, colour=colour, width=width)
        if len(marks) > 1:
            font = ImageFont.load_default(size=max(10, 6 * width))
            _write(pen, f"{number + 1}", corner, font=font, colour=colour)
    return drawn


def _draw(
    pen: ImageDraw.ImageDraw,
    mark: Box | Point,
    size: tuple[int, int],
    *,
    colour: str,
    width: int,
) -> tuple[float, float]:
    """Draws one mark; returns where its number goes. Black around it shows on any ground."""
    columns, rows = size
    if isinstance(mark, Point):
        x, y = mark.x * (columns - 1), mark.y * (rows - 1)
        for radius, fill in ((4 * width, "black"), (3 * width, colour)):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        return x + 4 * width, y
    left, top = mark.left * (columns - 1), mark.top * (rows - 1)
    right, bottom = mark.right * (columns - 1), mark.bottom * (rows - 1)
    edges = (round(left), round(top), round(right), round(bottom))
    pen.rectangle(edges, outline="black", width=width + 1)
    pen.rectangle(edges, outline=colour, width=width)
    return edges[0], edges[1]


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    *,
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
    colour: str,
) -> None:
    frame = pen.textbbox(corner, text, font=font)
    pen.rectangle((corner, (frame[2] + 2, frame[3] + 2)), fill=colour)
    pen.text(corner, text, font=font, fill="black")
