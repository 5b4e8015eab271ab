"""A chart of a run -> lines, words and marks, drawn by a pen."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onevision.pens import PixelPen, Point, SvgPen
from onevision.train.report.charts import Chart, Run, Series, Values, short, went_wrong

WIDTH, HEIGHT = 440, 228  # of a chart, with the words at its axes
LEFT, RIGHT, TOP, BOTTOM = 46, 422, 10, 196  # of the field in it
# A scale is logarithmic where the largest value is so many times the smallest.
LOGARITHMIC_FROM = 30.0
# Lines further apart than so many usual distances are not joined.
GAP = 3


def draw(chart: Chart, run: Run, pen: SvgPen | PixelPen) -> None:
    """Draw the field of a chart: its scales, its curves, and marks below what went wrong."""
    across, up = _step_scale(run), _value_scale(chart)
    pen.text((LEFT - 6, BOTTOM + 19), "step", "end")
    for tick in across.ticks():
        if tick == round(tick):
            pen.text((_x(across, np.array([tick]))[0], BOTTOM + 19), short(tick), "middle")
    pen.line([(LEFT, BOTTOM), (RIGHT, BOTTOM)], "grid")
    for tick in up.ticks():
        y = _y(up, np.array([tick]))[0]
        pen.line([(LEFT, y), (RIGHT, y)], "grid")
        pen.text((LEFT - 6, y), chart.say(tick), "end")
    for one in chart.series:
        for part in _joined(one, gaps=_gaps(run.steps)):
            x, y = _x(across, one.steps[part]), _y(up, one.values[part])
            pen.line(_thinned(x, y), one.style, faint=one.faint)
    if not any(np.isfinite(one.values).any() for one in chart.series):
        pen.text(((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2), "nothing recorded", "middle")
    for style, said, steps in went_wrong(run):
        for x in np.unique(np.round(_x(across, steps))):
            pen.mark((x, BOTTOM + 2), style, said)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values from `low` to `high` -> 0 to 1."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, values: Values) -> Values:
        """Return where values lie between low (0) and high (1)."""
        if self.logarithmic:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return three to six round values."""
        if self.logarithmic:
            low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            digits = (1, 2, 5) if high - low <= 2 else (1, 3) if high - low == 3 else (1,)
            every = math.ceil((high - low) / 5)
            ticks = [digit * 10.0**k for k in range(low, high + 1, every) for digit in digits]
        else:
            reach = self.high - self.low
            step = 10.0 ** math.floor(math.log10(reach / 4))
            step *= next(n for n in (1, 2, 2.5, 5, 10) if reach / (n * step) <= 5)
            first = math.ceil(self.low / step)
            ticks = [n * step for n in range(first, first + 7)]
        return [tick for tick in ticks if self.low <= tick <= self.high * (1 + 1e-9)]


def _step_scale(run: Run) -> Scale:
    first, last = run.steps[[0, -1]].tolist()
    room = 0.5 if first == last else 0.0
    return Scale(low=first - room, high=last + room)


def _value_scale(chart: Chart) -> Scale:
    values = np.concatenate([np.empty(0), *(one.values for one in chart.series)])
    values = values[np.isfinite(values)]
    if not len(values):
        return Scale(low=0.0, high=1.0)
    low, high = float(values.min()), float(values.max())
    if chart.from_zero:
        return Scale(low=min(0.0, low), high=high * 1.05 or 1.0)
    if low > 0 and high / low >= LOGARITHMIC_FROM:
        return Scale(low=low / 1.1, high=high * 1.1, logarithmic=True)
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low=low - room if low < 0 else max(0.0, low - room), high=high + room)


def _x(scale: Scale, steps: Values) -> Values:
    return LEFT + (RIGHT - LEFT) * scale.place(steps)


def _y(scale: Scale, values: Values) -> Values:
    return BOTTOM - (BOTTOM - TOP) * scale.place(values)


def _gaps(steps: Values) -> Values:
    """Return the last step before each gap of a log."""
    distances = np.diff(steps)
    usual = np.median(distances) if len(distances) else 1.0
    return steps[:-1][distances > GAP * usual]


def _joined(series: Series, *, gaps: Values) -> Iterator[NDArray[np.int64]]:
    """Give the stretches of a curve: they end at a gap and where a value is not finite."""
    finite = np.isfinite(series.values)
    indices = np.flatnonzero(finite)
    breaks = np.searchsorted(gaps, series.steps) + np.cumsum(~finite)  # [L] so far
    for part in np.split(indices, np.flatnonzero(np.diff(breaks[indices])) + 1):
        if len(part):
            yield part


def _thinned(x: Values, y: Values) -> list[Point]:
    """Return the points, or the lowest and the highest of each unit where there are more."""
    kept = np.arange(len(x))
    if len(x) > 2 * (RIGHT - LEFT):
        starts = np.flatnonzero(np.diff(np.floor(x), prepend=-1.0)).tolist()
        ends = [*starts[1:], len(x)]
        ranges = [range(begin, end) for begin, end in zip(starts, ends, strict=True)]
        kept = np.unique([pick(one, key=y.item) for one in ranges for pick in (min, max)])
    return list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))
