r"""Labelled figures: points and labels -> lines, angle marks and writing that stay clear of them.

    C                Sides are labelled on their outer side, corners outside the figure,
   / \                angles inside, beyond their arc.
5 /   \ 6
 A─────B
    7
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.shapes import Colour, Point
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Sample

INKS: tuple[Colour, ...] = (
    (25, 25, 25), (25, 25, 25), (30, 60, 140), (140, 35, 35), (30, 100, 60), (90, 50, 120),
    (120, 75, 30),
)  # fmt: skip
FILLS: tuple[Colour | None, ...] = (
    None, None, (253, 236, 200), (212, 230, 250), (222, 242, 214), (248, 220, 226), (232, 226, 248),
)  # fmt: skip
GROUNDS: tuple[Colour, ...] = ((255, 255, 255), (252, 252, 252), (250, 248, 240), (244, 247, 250))
DiagramMaker = Callable[[random.Random], Sample]
UNITS = ("cm", "m", "mm", "km", "")
LABEL_DISTANCE = 13


@dataclass(frozen=True, kw_only=True)
class DiagramStyle:
    """Colours, letters and the thickness of lines."""

    ground: Colour
    ink: Colour
    fill: Colour | None
    letters: Letters
    thickness: float


def random_style(rng: random.Random) -> DiagramStyle:
    """Chooses a style at random."""
    return DiagramStyle(
        ground=rng.choice(GROUNDS),
        ink=rng.choice(INKS),
        fill=rng.choice(FILLS),
        letters=Letters(size=rng.randint(13, 16)),
        thickness=rng.choice((1.5, 2, 2, 2.5)),
    )


def one_of(*kinds: DiagramMaker) -> DiagramMaker:
    """Returns what makes one of some kinds of diagrams, chosen at random."""
    return lambda rng: rng.choice(kinds)(rng)


class Figure:
    """A drawing in one style, with labels placed where there is room."""

    def __init__(self, style: DiagramStyle, width: int, height: int) -> None:
        self.style = style
        self.canvas = Canvas(width, height, ground=style.ground)

    def line(self, *points: Point) -> None:
        """Draws a line through points."""
        self.canvas.line(points, ink=self.style.ink, thickness=self.style.thickness)

    def polygon(self, points: Sequence[Point]) -> None:
        """Draws a closed outline, filled if the style has a fill."""
        style = self.style
        self.canvas.polygon(points, fill=style.fill, ink=style.ink, thickness=style.thickness)

    def dot(self, point: Point) -> None:
        """Marks a point."""
        self.canvas.circle(*point, 3.5, fill=self.style.ink)

    def write(self, point: Point, text: str) -> None:
        """Writes a label centred on a point."""
        self.canvas.text(*point, text, letters=self.style.letters, anchor="mm")

    def label_corners(self, points: Sequence[Point], names: Sequence[str]) -> None:
        """Writes the corners' names outside a figure."""
        middle = centre(points)
        for point, name in zip(points, names, strict=True):
            self.write(beyond(middle, point, LABEL_DISTANCE), name)

    def label_side(self, start: Point, end: Point, text: str, *, away_from: Point) -> None:
        """Writes beside the middle of a line, on the side that does not hold `away_from`."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        across = (start[1] - end[1], end[0] - start[0])
        length = math.hypot(*across) or 1
        side = across[0] * (away_from[0] - middle[0]) + across[1] * (away_from[1] - middle[1])
        sign = -1 if side > 0 else 1
        normal = (sign * across[0] / length, sign * across[1] / length)
        half = self.style.letters.width(text) / 2
        room = 5 + half * abs(normal[0]) + 0.5 * self.style.letters.size * abs(normal[1])
        self.write((middle[0] + normal[0] * room, middle[1] + normal[1] * room), text)

    def mark_angle(
        self, at: Point, one: Point, other: Point, text: str, *, radius: float = 20
    ) -> None:
        """Draws the arc between two arms of less than a half turn, and writes beyond it."""
        start, sweep = opening(at, one, other)
        self.canvas.arc(*at, radius, start, start + sweep, ink=self.style.ink, thickness=1.2)
        half = self.style.letters.width(text) / 2 + 5
        narrow = half / max(0.2, math.sin(math.radians(min(sweep, 180) / 2)))
        distance = max(radius + 6 + half * 0.8, narrow)
        self.write(towards(at, start + sweep / 2, distance), text)

    def mark_right_angle(self, at: Point, one: Point, other: Point, *, size: float = 12) -> None:
        """Draws the small square of a right angle."""
        a, b = towards_point(at, one, size), towards_point(at, other, size)
        corner = (a[0] + b[0] - at[0], a[1] + b[1] - at[1])
        self.canvas.line([a, corner, b], ink=self.style.ink, thickness=1.2)

    def picture(self) -> PillowImage:
        """Finishes the drawing."""
        return self.canvas.picture()


def centre(points: Sequence[Point]) -> Point:
    """Returns the mean of points."""
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def towards(at: Point, degrees: float, distance: float) -> Point:
    """Returns the point at a distance, `degrees` clockwise from three o'clock."""
    angle = math.radians(degrees)
    return at[0] + distance * math.cos(angle), at[1] + distance * math.sin(angle)


def towards_point(at: Point, target: Point, distance: float) -> Point:
    """Returns the point at a distance from `at` on the way to `target`."""
    length = math.hypot(target[0] - at[0], target[1] - at[1]) or 1
    share = distance / length
    return at[0] + (target[0] - at[0]) * share, at[1] + (target[1] - at[1]) * share


def beyond(start: Point, point: Point, distance: float) -> Point:
    """Returns the point at a distance behind `point`, seen from `start`."""
    length = math.hypot(point[0] - start[0], point[1] - start[1])
    return towards_point(start, point, length + distance)


def opening(at: Point, one: Point, other: Point) -> tuple[float, float]:
    """Returns where the angle between two arms begins and how wide it is, in degrees."""
    a = math.degrees(math.atan2(one[1] - at[1], one[0] - at[0]))
    b = math.degrees(math.atan2(other[1] - at[1], other[0] - at[0]))
    sweep = (b - a) % 360
    return (a, sweep) if sweep <= 180 else (b, 360 - sweep)


def fit(
    points: Sequence[Point], *, width: int, height: int, margin: int, turn: float = 0
) -> list[Point]:
    """Turns points by degrees, then scales and moves them into the middle of a picture."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    turned = [(x * cos - y * sin, x * sin + y * cos) for x, y in points]
    xs, ys = [x for x, _ in turned], [y for _, y in turned]
    across, down = max(xs) - min(xs), max(ys) - min(ys)
    scale = min((width - 2 * margin) / across, (height - 2 * margin) / down)
    left = (width - across * scale) / 2 - min(xs) * scale
    top = (height - down * scale) / 2 - min(ys) * scale
    return [(left + x * scale, top + y * scale) for x, y in turned]


def in_unit(unit: str) -> str:
    """Returns what a question about a length adds: " in cm", or nothing without a unit."""
    return f" in {unit}" if unit else ""


def in_square(unit: str) -> str:
    """Returns what a question about an area adds: " in square cm", or nothing without a unit."""
    return f" in square {unit}" if unit else ""


def area_label(value: int, unit: str) -> str:
    """Returns an area as it is said: "12 square cm"."""
    return f"{value} square {unit}" if unit else str(value)


def length_label(value: int, unit: str) -> str:
    """Returns a length as it is written in a figure."""
    return f"{value} {unit}" if unit else str(value)
