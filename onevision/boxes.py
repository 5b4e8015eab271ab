"""Words -> the boxes and points in them, as shares of the original picture's width and height.

    unit          a ring [0.12, 0.30, 0.55, 0.80]       a point [0.33, 0.55]       LLaVA
    thousandths   a ring (120,300),(550,800)            a point (330,550)          Qwen

A box is left, top, right, bottom, counted from the top left corner. Both ways of writing are read
with round or square brackets; which numbers they hold is a value of the chat template. Numbers that
are out of range, or a box whose right edge is not right of its left one, are words like any other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# What the right or the bottom edge of a picture is written as: 1.00, or 1000.
Coordinates = Literal["unit", "thousandths"]
EDGES: dict[Coordinates, int] = {"unit": 1, "thousandths": 1000}
# How a prompt can say it, and what an error says was expected.
WORDS: dict[Coordinates, str] = {
    "unit": "[left, top, right, bottom] or [x, y], from 0 to 1",
    "thousandths": "(left,top),(right,bottom) or (x,y), from 0 to 1000",
}

_NUMBER = r"\s*(\d+(?:\.\d+)?|\.\d+)\s*"
_PAIR = rf"[\[(]{_NUMBER},{_NUMBER}[\])]"
# Four numbers in brackets; two pairs, with a comma or nothing between them; one pair.
_MARK = re.compile(
    rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]|{_PAIR}\s*,?\s*{_PAIR}|{_PAIR}"
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A place in a picture, each coordinate from 0 to 1."""

    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in a picture, each coordinate from 0 to 1; left < right and top < bottom."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """The share of the picture that it covers."""
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def centre(self) -> Point:
        """The point in its middle."""
        return Point(x=(self.left + self.right) / 2, y=(self.top + self.bottom) / 2)

    def contains(self, point: Point) -> bool:
        """Whether a point is inside or on the edge."""
        return self.left <= point.x <= self.right and self.top <= point.y <= self.bottom

    def iou(self, other: "Box") -> float:
        """Returns the intersection of two boxes over their union, 0 to 1."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(0.0, width) * max(0.0, height)
        return shared / (self.area + other.area - shared)


def find_marks(text: str, *, coordinates: Coordinates = "unit") -> list[Box | Point]:
    """Returns the boxes and points that a text names, in order."""
    return list(_marks(text, EDGES[coordinates]))


def find_boxes(text: str, *, coordinates: Coordinates = "unit") -> list[Box]:
    """Returns the boxes that a text names, in order."""
    return [one for one in _marks(text, EDGES[coordinates]) if isinstance(one, Box)]


def to_mark(numbers: Sequence[float]) -> Box | Point | None:
    """Returns the box of four shares or the point of two; None if they are not such."""
    if not all(0 <= number <= 1 for number in numbers):
        return None
    if len(numbers) == 2:
        return Point(x=numbers[0], y=numbers[1])
    if len(numbers) != 4 or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        return None
    return Box(left=numbers[0], top=numbers[1], right=numbers[2], bottom=numbers[3])


def write_mark(mark: Box | Point, *, coordinates: Coordinates = "unit") -> str:
    """Returns a box or a point as the words of an answer, rounded as the convention is."""
    if isinstance(mark, Point):
        values = [mark.x, mark.y]
    else:
        values = [mark.left, mark.top, mark.right, mark.bottom]
    if coordinates == "unit":
        return f"[{', '.join(f'{value:.2f}' for value in values)}]"
    whole = [str(round(1000 * value)) for value in values]
    return ",".join(f"({x},{y})" for x, y in zip(whole[::2], whole[1::2], strict=True))


def match_boxes(found: Sequence[Box], expected: Sequence[Box]) -> float:
    """Returns how well boxes match, 0 to 1: the IoUs of the best pairs over the larger number.

    Pairs are formed greedily, those with the largest IoU first; a box too many counts as one that
    matches nothing.
    """
    pairs = sorted(
        ((a.iou(b), i, j) for i, a in enumerate(found) for j, b in enumerate(expected)),
        key=lambda pair: -pair[0],
    )
    used_found, used_expected, total = set[int](), set[int](), 0.0
    for iou, i, j in pairs:
        if i not in used_found and j not in used_expected:
            used_found.add(i)
            used_expected.add(j)
            total += iou
    return total / max(len(found), len(expected), 1)


def _marks(text: str, edge: int) -> Iterator[Box | Point]:
    for match in _MARK.finditer(text):
        mark = to_mark([float(number) / edge for number in match.groups() if number is not None])
        if mark is not None:
            yield mark
