"""Lines, words and marks, in an SVG or in a picture: what charts are drawn with.

Lengths are in units of a chart: a page scales them, a picture has SCALE pixels a unit.
"""

import html
from collections.abc import Sequence
from typing import Literal

from PIL import ImageDraw, ImageFont

SCALE = 2
DENSITY = 2 * SCALE  # while it is drawn
DOT = 3.6  # radius
WASH = 38  # alpha of a wash, of 255
# On paper and in the dark.
COLOURS = {
    "s0": ("#1768d6", "#6ea8fe"),
    "s1": ("#c2410c", "#ff9f45"),
    "s2": ("#2b7a3d", "#69db7c"),
    "s3": ("#8a3ab9", "#d99bf5"),
    "s4": ("#0b7285", "#3bc9db"),
    "s5": ("#b0295f", "#f783ac"),
    "s6": ("#7a6200", "#ffd43b"),
    "s7": ("#495057", "#adb5bd"),
    "skipped": ("#d6202f", "#ff6b6b"),
    "odd": ("#b57400", "#ffc14d"),
    "grid": ("#e2e5ea", "#3a3f47"),
}
INK, PALE, PAPER = "#20242c", "#6b7280", "#ffffff"

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


class SvgPen:
    """Draws elements of an SVG; the page gives styles their colours."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def line(
        self, points: Sequence[Point], style: str, *, faint: bool = False, thin: bool = False
    ) -> None:
        """Join points; a single one becomes a dot."""
        kind = style + " faint" * faint + " thin" * thin
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        element = f'<polyline class="{kind}" points="{path}"/>'
        if len(points) == 1:
            element = f'<circle class="{kind}" cx="{points[0][0]}" cy="{points[0][1]}" r="2"/>'
        self.parts.append(element)

    def area(self, corners: Sequence[Point], style: str, *, hint: str, wash: bool = False) -> None:
        """Fill a polygon; a wash lets what is below shine through."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        kind = f"{style} wash" if wash else style
        title = f"<title>{html.escape(hint)}</title>"
        self.parts.append(f'<polygon class="{kind}" points="{path}">{title}</polygon>')

    def dot(self, at: Point, style: str, *, hint: str) -> None:
        """Draw a dot with a rim, so that dots on each other can be told apart."""
        place = f'cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{DOT}"'
        title = f"<title>{html.escape(hint)}</title>"
        self.parts.append(f'<circle class="{style} dot" {place}>{title}</circle>')

    def text(self, at: Point, said: str, anchor: Anchor, *, loud: bool = False) -> None:
        """Write small words, centred vertically on `at`."""
        place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" dy=".35em" text-anchor="{anchor}"'
        kind = ' class="loud"' if loud else ""
        self.parts.append(f"<text{kind} {place}>{html.escape(said)}</text>")

    def mark(self, at: Point, style: str, said: str) -> None:
        """Draw a triangle with its tip at `at`; `said` is its hint."""
        path = f"M{at[0]:.1f} {at[1]:.1f}l-4 8h8z"
        self.parts.append(f'<path class="{style}" d="{path}"><title>{said}</title></path>')


class PixelPen:
    """Draws the same in a picture, from the corner (left, top).

    Washes need an ImageDraw that blends: `ImageDraw.Draw(picture, "RGBA")`.
    """

    def __init__(self, picture: ImageDraw.ImageDraw, *, left: float, top: float) -> None:
        self.picture, self.left, self.top = picture, left, top

    def line(
        self, points: Sequence[Point], style: str, *, faint: bool = False, thin: bool = False
    ) -> None:
        """Join points; a single one becomes a dot."""
        colour = _pale(COLOURS[style][0]) if faint else COLOURS[style][0]
        width = round(DENSITY * (1.0 if faint or thin or style == "grid" else 1.8))
        placed = [self._place(point) for point in points]
        if len(placed) == 1:
            self.picture.circle(placed[0], 2 * DENSITY, fill=colour)
        self.picture.line(placed, fill=colour, width=width, joint="curve")

    def area(
        self,
        corners: Sequence[Point],
        style: str,
        *,
        hint: str,  # noqa: ARG002 pictures have no hints
        wash: bool = False,
    ) -> None:
        """Fill a polygon; a wash lets what is below shine through."""
        alpha = WASH if wash else 255
        self.picture.polygon([*map(self._place, corners)], fill=(*_rgb(style), alpha))

    def dot(self, at: Point, style: str, *, hint: str) -> None:  # noqa: ARG002 as above
        """Draw a dot with a rim, so that dots on each other can be told apart."""
        place = self._place(at)
        self.picture.circle(place, (DOT + 0.8) * DENSITY, fill=PAPER)
        self.picture.circle(place, DOT * DENSITY, fill=_rgb(style))

    def text(
        self,
        at: Point,
        said: str,
        anchor: Anchor,
        *,
        size: int = 12,
        colour: str = PALE,
        loud: bool = False,
    ) -> None:
        """Write words, centred vertically on `at`; loud ones are as dark as ink."""
        colour = INK if loud else colour
        side = {"start": "l", "middle": "m", "end": "r"}[anchor]
        font = ImageFont.load_default(size=size * DENSITY)
        self.picture.text(self._place(at), said, font=font, fill=colour, anchor=f"{side}m")

    def mark(self, at: Point, style: str, said: str) -> None:  # noqa: ARG002 pictures have no hints
        """Draw a triangle with its tip at `at`."""
        (x, y), side = self._place(at), 4 * DENSITY
        corners = [(x, y), (x - side, y + 2 * side), (x + side, y + 2 * side)]
        self.picture.polygon(corners, fill=COLOURS[style][0])

    def _place(self, at: Point) -> Point:
        return (self.left + at[0]) * DENSITY, (self.top + at[1]) * DENSITY


def _rgb(style: str) -> tuple[int, int, int]:
    red, green, blue = (int(COLOURS[style][0][k : k + 2], 16) for k in (1, 3, 5))
    return red, green, blue


def _pale(colour: str) -> tuple[int, ...]:
    """Return a colour two thirds of the way to white paper."""
    return tuple(round(255 - (255 - int(colour[k : k + 2], 16)) / 3) for k in (1, 3, 5))
