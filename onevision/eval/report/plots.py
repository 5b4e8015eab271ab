"""A group of rows -> a bar chart and a radar, drawn by a pen: in an SVG, or in a picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from onevision.errors import InputError
from onevision.eval.report.comparison import Column, Comparison, Row
from onevision.pens import PixelPen, Point, SvgPen

Pen = SvgPen | PixelPen

WIDTH = 440  # of both
LEFT, RIGHT = 134, 388  # of the bars; figures stand to the right
BAR, TRACK, GAP, AXIS = 14, 15, 11, 22
RADIUS, RIM = 118, 26  # of a radar, and the room above and below it for words
MAX_BESIDE_BARS, MAX_ON_SPOKES = 19, 14  # characters
MIN_SPOKES = 3
STYLES = tuple(f"s{number}" for number in range(8))


def styles(comparison: Comparison) -> Mapping[str, str]:
    """Return the colour of every column. Raises InputError where there are not enough."""
    if len(comparison.columns) > len(STYLES):
        raise InputError(
            f"{len(comparison.columns)} models in one plot; expected {len(STYLES)} at most: give "
            "fewer runs, or fewer published models"
        )
    return {c.name: style for c, style in zip(comparison.columns, STYLES, strict=False)}


def bars_height(rows: Sequence[Row], comparison: Comparison) -> float:
    """Return the height of a bar chart, in units."""
    return AXIS + sum(_row_height(row, comparison) for row in rows) + 4


def draw_bars(rows: Sequence[Row], comparison: Comparison, pen: Pen) -> None:
    """Draw runs as bars, with their intervals, and published models as dots on a line below."""
    colours, bottom = styles(comparison), bars_height(rows, comparison) - 4
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LEFT + share * (RIGHT - LEFT)
        pen.line([(x, AXIS - 4), (x, bottom)], "grid")
        pen.text((x, AXIS - 13), f"{100 * share:g} %", "middle")
    top = float(AXIS)
    for row in rows:
        height = _row_height(row, comparison) - GAP
        pen.text((LEFT - 8, top + height / 2), _short(row.title, MAX_BESIDE_BARS), "end", loud=True)
        for column in comparison.runs:
            if column.name in row.cells:
                _draw_bar(row, column, top, colours[column.name], pen)
                top += BAR
        if _published(row, comparison):
            _draw_track(row, comparison, top + TRACK / 2, pen)
            top += TRACK
        top += GAP


def radar_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that a radar can show: those of several models."""
    return [row for row in rows if len(row.cells) > 1]


def radar_height() -> float:
    """Return the height of a radar, in units."""
    return 2 * (RADIUS + RIM)


def draw_radar(rows: Sequence[Row], comparison: Comparison, pen: Pen) -> None:
    """Draw a spoke a row, from nothing in the middle to the row's `most`; runs are filled."""
    colours = styles(comparison)
    for share in (0.25, 0.5, 0.75, 1):
        pen.line(_ring([share] * len(rows)), "grid")
    for number, row in enumerate(rows):
        pen.line([_spoke(number, len(rows), 0), _spoke(number, len(rows), 1)], "grid")
        _label(row.title, number, len(rows), pen)
    for column in reversed(comparison.columns):  # runs last, on top
        shares = [_share(row, row.cells[column.name].value) if column.name in row.cells else None
                  for row in rows]  # fmt: skip
        style = colours[column.name]
        if not column.is_published and None not in shares:
            pen.area(_ring(shares)[:-1], style, hint=column.title, wash=True)
        for line in _unbroken(shares):
            pen.line(line, style, thin=column.is_published)
        for number, share in enumerate(shares):
            if share is not None and not column.is_published:
                said = f"{rows[number].title}, {column.title}: {rows[number].say(column)}"
                pen.dot(_spoke(number, len(rows), share), style, hint=said)


def _published(row: Row, comparison: Comparison) -> list[Column]:
    return [c for c in comparison.columns if c.is_published and c.name in row.cells]


def _row_height(row: Row, comparison: Comparison) -> float:
    num_bars = sum(column.name in row.cells for column in comparison.runs)
    return num_bars * BAR + (TRACK if _published(row, comparison) else 0) + GAP


def _draw_bar(row: Row, column: Column, top: float, style: str, pen: Pen) -> None:
    cell = row.cells[column.name]
    end, low, high = _x(row, cell.value), top + 1.5, top + BAR - 1.5
    corners = [(LEFT, low), (end, low), (end, high), (LEFT, high)]
    pen.area(corners, style, hint=f"{row.title}, {column.title}: {row.say(column)}")
    if cell.interval is not None:
        begin, stop = (_x(row, value) for value in cell.interval)
        middle = top + BAR / 2
        pen.line([(begin, middle), (stop, middle)], "s7")
        for x in (begin, stop):
            pen.line([(x, middle - 3), (x, middle + 3)], "s7")
    pen.text((RIGHT + 8, top + BAR / 2), f"{cell.value:.{row.digits}f}", "start", loud=True)


def _draw_track(row: Row, comparison: Comparison, y: float, pen: Pen) -> None:
    colours = styles(comparison)
    pen.line([(LEFT, y), (RIGHT, y)], "grid")
    for column in _published(row, comparison):
        said = f"{row.title}, {column.title}: {row.say(column)}"
        pen.dot((_x(row, row.cells[column.name].value), y), colours[column.name], hint=said)


def _share(row: Row, value: float) -> float:
    return min(max(value / row.most, 0.0), 1.0)


def _x(row: Row, value: float) -> float:
    return LEFT + _share(row, value) * (RIGHT - LEFT)


def _spoke(number: int, of: int, share: float) -> Point:
    """Return the place on a spoke: the first points up, the others follow the clock."""
    angle = 2 * math.pi * number / of
    reach = share * RADIUS
    return WIDTH / 2 + reach * math.sin(angle), RADIUS + RIM - reach * math.cos(angle)


def _ring(shares: Sequence[float | None]) -> list[Point]:
    places = [_spoke(n, len(shares), share or 0) for n, share in enumerate(shares)]
    return [*places, places[0]]


def _unbroken(shares: Sequence[float | None]) -> Iterator[list[Point]]:
    """Give the lines between neighbours that both have a share."""
    ring = [
        (number % len(shares), shares[number % len(shares)]) for number in range(len(shares) + 1)
    ]
    for (one, here), (other, there) in pairwise(ring):
        if here is not None and there is not None:
            yield [_spoke(one, len(shares), here), _spoke(other, len(shares), there)]


def _label(title: str, number: int, of: int, pen: Pen) -> None:
    x, y = _spoke(number, of, 1 + 10 / RADIUS)
    side = math.sin(2 * math.pi * number / of)
    anchor = "middle" if abs(side) < 0.1 else "start" if side > 0 else "end"
    pen.text((x, y), _short(title, MAX_ON_SPOKES), anchor)


def _short(title: str, most: int) -> str:
    return title if len(title) <= most else f"{title[: most - 2]}..."
