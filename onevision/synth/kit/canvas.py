"""Shapes and text -> a picture: shapes with smooth edges, and sharp text over them.

Shapes are drawn larger and averaged down; text is written last, at its true size. All coordinates
are pixels of the finished picture.
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.shapes import Colour, Point, draw_shape
from onevision.synth.kit.text import Anchor, Letters

BLACK: Colour = (25, 25, 25)
WHITE: Colour = (252, 252, 252)


class Canvas:
    """Shapes and writing of one picture, finished by `picture`."""

    def __init__(self, width: int, height: int, *, ground: Colour = WHITE, scale: int = 2) -> None:
        self.width, self.height, self.ground = width, height, ground
        self._scale = scale
        self._image = Image.new("RGB", (width * scale, height * scale), ground)
        self._pen = ImageDraw.Draw(self._image)
        self._texts: list[tuple[float, float, str, Letters, Colour, Anchor]] = []
        self._stickers: list[tuple[int, int, PillowImage]] = []

    def line(self, points: Sequence[Point], *, ink: Colour, thickness: float = 1) -> None:
        """Draws a line through points."""
        width = self._pixels(thickness)
        self._pen.line(self._points(points), fill=ink, width=width, joint="curve")

    def dashed(self, start: Point, end: Point, *, ink: Colour, dash: float = 4) -> None:
        """Draws a dashed line."""
        length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
        steps = max(1, round(length / dash))
        for step in range(0, steps, 2):
            a, b = step / steps, min(1.0, (step + 1) / steps)
            self.line([_between(start, end, a), _between(start, end, b)], ink=ink)

    def polygon(
        self, points: Sequence[Point], *, fill: Colour | None = None,
        ink: Colour | None = None, thickness: float = 2,
    ) -> None:  # fmt: skip
        """Draws a filled polygon, an outlined one, or both."""
        if fill is not None:
            self._pen.polygon(self._points(points), fill=fill)
        if ink is not None:
            self.line([*points, points[0], points[1]], ink=ink, thickness=thickness)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, *,
        fill: Colour | None = None, ink: Colour | None = None, thickness: float = 1,
        radius: float = 0,
    ) -> None:  # fmt: skip
        """Draws a rectangle, with round corners if `radius` is given."""
        box, width = self._box(left, top, right, bottom), self._pixels(thickness)
        if radius:
            self._pen.rounded_rectangle(
                box, radius=radius * self._scale, fill=fill, outline=ink, width=width
            )
        else:
            self._pen.rectangle(box, fill=fill, outline=ink, width=width)

    def circle(
        self, x: float, y: float, radius: float, *, fill: Colour | None = None,
        ink: Colour | None = None, thickness: float = 1,
    ) -> None:  # fmt: skip
        """Draws a disc, a circle, or both."""
        box = self._box(x - radius, y - radius, x + radius, y + radius)
        self._pen.ellipse(box, fill=fill, outline=ink, width=self._pixels(thickness))

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, *,
        ink: Colour, thickness: float = 1,
    ) -> None:  # fmt: skip
        """Draws an arc from `start` to `end` degrees, clockwise from three o'clock."""
        box = self._box(x - radius, y - radius, x + radius, y + radius)
        self._pen.arc(box, start, end, fill=ink, width=self._pixels(thickness))

    def slice(
        self, x: float, y: float, radius: float, start: float, end: float, *,
        fill: Colour | None = None, ink: Colour | None = None, thickness: float = 1,
    ) -> None:  # fmt: skip
        """Draws a slice of a disc from `start` to `end` degrees, clockwise from three o'clock."""
        box = self._box(x - radius, y - radius, x + radius, y + radius)
        width = self._pixels(thickness)
        self._pen.pieslice(box, start, end, fill=fill, outline=ink, width=width)

    def shape(self, name: str, x: float, y: float, radius: float, *, fill: Colour) -> None:
        """Draws one of the world's shapes: "star", "diamond"."""
        scale = self._scale
        centre = (x * scale, y * scale)
        draw_shape(self._pen, name, centre, radius * scale, fill=fill, ground=self.ground)

    def text(
        self, x: float, y: float, text: str, *, letters: Letters, ink: Colour = BLACK,
        anchor: Anchor = "lt",
    ) -> None:  # fmt: skip
        """Writes a line of text over everything drawn."""
        self._texts.append((x, y, text, letters, ink, anchor))

    def text_upwards(
        self, x: float, y: float, text: str, *, letters: Letters, ink: Colour = BLACK
    ) -> None:
        """Writes a line that runs from bottom to top, centred on a point."""
        strip = Image.new("RGB", (letters.width(text) + 2, letters.line_height), self.ground)
        letters.write(ImageDraw.Draw(strip), 1, 0, text, ink=ink)
        strip = strip.transpose(Image.Transpose.ROTATE_90)
        self._stickers.append((round(x - strip.width / 2), round(y - strip.height / 2), strip))

    def picture(self) -> PillowImage:
        """Finish: average the shapes down and write the texts."""
        image = self._image if self._scale == 1 else self._image.reduce(self._scale)
        for x, y, strip in self._stickers:
            image.paste(strip, (x, y))
        pen = ImageDraw.Draw(image)
        for x, y, text, letters, ink, anchor in self._texts:
            letters.write(pen, x, y, text, ink=ink, anchor=anchor)
        return image

    def _pixels(self, thickness: float) -> int:
        return max(1, round(thickness * self._scale))

    def _points(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale) for x, y in points]

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
        # Pillow's boxes include their last row and column.
        scale = self._scale
        return left * scale, top * scale, right * scale - 1, bottom * scale - 1


def _between(start: Point, end: Point, share: float) -> Point:
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
