"""Estimates -> pictures: rows of dots with intervals, and accuracy over visual tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PIL
from PIL import ImageDraw

from onevision.pens import DENSITY, INK, PAPER, SCALE, PixelPen, Point
from onevision.science.claims import Estimate

MARGIN, HEADER, KEY = 24, 44, 22
# Of a row plot.
ROWS_WIDTH, ROWS_LEFT, ROWS_RIGHT = 560, 170, 540
LINE, GAP, AXIS = 13, 9, 24
# Of a panel over tokens.
PANEL_WIDTH, PANEL_HEIGHT = 250, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 240, 24, 170
TICKS = (0, 0.25, 0.5, 0.75, 1)


@dataclass(frozen=True, kw_only=True)
class Series:
    """What one colour stands for."""

    name: str
    style: str


@dataclass(frozen=True, kw_only=True)
class PlotRow:
    """A question, and the estimate of each series (None: it has none)."""

    title: str
    estimates: tuple[Estimate | None, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Accuracy over visual tokens: a (tokens, estimate) for each series."""

    title: str
    points: tuple[tuple[float, Estimate], ...]


def draw_rows(title: str, series: Sequence[Series], rows: Sequence[PlotRow], path: Path) -> None:
    """Draw a line an estimate, on a scale of 0 to 100 %, and save the picture as PNG."""
    heights = [len(series) * LINE + GAP for _ in rows]
    height = HEADER + KEY + AXIS + sum(heights) + MARGIN
    pen, sheet = _sheet(title, series, ROWS_WIDTH + 2 * MARGIN, height)
    top = HEADER + KEY + AXIS
    for tick in TICKS:
        x = _across(tick)
        pen.line([(x, top - 6), (x, top + sum(heights))], "grid")
        pen.text((x, top - 14), f"{100 * tick:g} %", "middle")
    for row in rows:
        pen.text((ROWS_LEFT - 10, top + len(series) * LINE / 2), row.title, "end", loud=True)
        for number, (one, value) in enumerate(zip(series, row.estimates, strict=True)):
            if value is not None:
                y = top + (number + 0.5) * LINE
                low, high = _bounded(value)
                pen.line([(_across(low), y), (_across(high), y)], one.style)
                pen.dot((_across(value.value), y), one.style, hint=row.title)
        top += len(series) * LINE + GAP
    _save(sheet, path)


def draw_panels(
    title: str, series: Sequence[Series], panels: Sequence[Panel], path: Path, *, chance: float
) -> None:
    """Draw panels side by side with one scale of tokens, and save the picture as PNG.

    A thin line marks the share that is right by chance.
    """
    width = len(panels) * PANEL_WIDTH + 2 * MARGIN
    pen, sheet = _sheet(title, series, width, HEADER + KEY + PANEL_HEIGHT + MARGIN)
    most = 1.05 * max(tokens for panel in panels for tokens, _ in panel.points)
    step = _round_step(most)
    for number, panel in enumerate(panels):
        left, top = number * PANEL_WIDTH, HEADER + KEY
        _draw_axes(panel.title, (left, top), most=most, step=step, pen=pen)
        level = top + _up(chance)
        pen.line([(left + LEFT, level), (left + RIGHT, level)], "s7", thin=True)
        for one, (tokens, value) in zip(series, panel.points, strict=True):
            x = left + LEFT + tokens / most * (RIGHT - LEFT)
            low, high = (top + _up(v) for v in _bounded(value))
            pen.line([(x, low), (x, high)], one.style)
            pen.dot((x, top + _up(value.value)), one.style, hint=one.name)
    _save(sheet, path)


def _draw_axes(title: str, corner: Point, *, most: float, step: float, pen: PixelPen) -> None:
    left, top = corner
    pen.text((left + (LEFT + RIGHT) / 2, top + 8), title, "middle", loud=True)
    for tick in TICKS:
        pen.line([(left + LEFT, top + _up(tick)), (left + RIGHT, top + _up(tick))], "grid")
        pen.text((left + LEFT - 6, top + _up(tick)), f"{100 * tick:g}", "end")
    for tokens in (n * step for n in range(int(most / step) + 1)):
        x = left + LEFT + tokens / most * (RIGHT - LEFT)
        pen.text((x, top + BOTTOM + 12), f"{tokens:g}", "middle")
    pen.text((left + (LEFT + RIGHT) / 2, top + BOTTOM + 28), "visual tokens", "middle")


def _sheet(
    title: str, series: Sequence[Series], width: float, height: float
) -> tuple[PixelPen, PIL.Image]:
    sheet = PIL.new("RGB", (round(width * DENSITY), round(height * DENSITY)), PAPER)
    pen = PixelPen(ImageDraw.Draw(sheet, "RGBA"), left=MARGIN, top=0)
    pen.text((0, HEADER / 2), title, "start", size=15, colour=INK)
    place = 0.0
    for one in series:
        pen.dot((place + 4, HEADER + 2), one.style, hint=one.name)
        pen.text((place + 14, HEADER + 2), one.name, "start", loud=True)
        place += 30 + 6.6 * len(one.name)
    return pen, sheet


def _save(sheet: PIL.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.reduce(DENSITY // SCALE).save(path, optimize=True)


def _bounded(value: Estimate) -> tuple[float, float]:
    """Return an interval as far as the scale goes."""
    return max(0.0, value.low), min(1.0, value.high)


def _across(share: float) -> float:
    return ROWS_LEFT + min(max(share, 0.0), 1.0) * (ROWS_RIGHT - ROWS_LEFT)


def _up(share: float) -> float:
    return BOTTOM - min(max(share, 0.0), 1.0) * (BOTTOM - TOP)


def _round_step(most: float) -> float:
    """Return a round distance that divides an axis into two to five."""
    unit = 10.0 ** math.floor(math.log10(most))
    return next(unit * n for n in (0.2, 0.5, 1, 2, 5) if most / (unit * n) <= 5)
