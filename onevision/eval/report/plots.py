"""Rows of a comparison -> bar charts and radars: an SVG per group, or a PNG of all groups."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from onevision import plots
from onevision.errors import InputError
from onevision.eval.report.comparison import Column, Comparison, Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

WIDTH = 460  # of both, in points
LEFT, RIGHT = 134, 412  # of the bars; names stand to their left, scores to their right
BAR, TRACK, GAP, AXIS = 15, 15, 11, 32  # heights: of a bar, of the markers below it
RADAR_HEIGHT, RADIUS = 310, 120
CAPTION = 24  # height of a group's title
MIN_SPOKES = 3
MAX_NAME = 19  # characters


def styles(comparison: Comparison) -> Mapping[str, str]:
    """Return the style of every column. Raises InputError if there are more columns than styles."""
    if len(comparison.columns) > len(plots.SERIES):
        raise InputError(
            f"{len(comparison.columns)} models in one plot; expected {len(plots.SERIES)} at most: "
            "give fewer runs, or fewer published models"
        )
    return {c.name: style for c, style in zip(comparison.columns, plots.SERIES, strict=False)}


def radar_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that a radar can show: those of several models."""
    return [row for row in rows if len(row.cells) > 1]


def group_svgs(group: str, rows: Sequence[Row], comparison: Comparison) -> list[str]:
    """Return the bar chart of a group, and its radar if it has MIN_SPOKES rows for one."""
    spokes = radar_rows(rows)
    bars = plots.svg(
        lambda figure: plot_bars(_bars_axes(figure, rows, comparison), rows, comparison),
        width=WIDTH,
        height=bars_height(rows, comparison),
        label=f"{group}, scores as bars",
    )
    if len(spokes) < MIN_SPOKES:
        return [bars]
    radar = plots.svg(
        lambda figure: plot_radar(_radar_axes(figure), spokes, comparison),
        width=WIDTH,
        height=RADAR_HEIGHT,
        label=f"{group}, scores as a radar",
    )
    return [bars, radar]


def bars_png(comparison: Comparison, *, title: str, subtitle: str) -> bytes:
    """Return the bar charts of all groups side by side."""
    groups = list(comparison.groups())
    width = WIDTH * max(1, len(groups))
    top = plots.heading_height(width, num_names=len(comparison.columns)) + CAPTION
    tallest = max((bars_height(rows, comparison) for _, rows in groups), default=AXIS)

    def plot(figure: "Figure") -> None:
        plots.add_heading(figure, title, subtitle, legend=_legend(comparison))
        for number, (group, rows) in enumerate(groups):
            axes = _bars_axes(figure, rows, comparison, left=number * WIDTH, top=top)
            plot_bars(axes, rows, comparison)
            axes.set_title(group.capitalize(), pad=10)

    return plots.png(plot, width=width, height=top + tallest)


def radar_png(comparison: Comparison, *, title: str, subtitle: str) -> bytes:
    """Return the radars of all groups that have one, side by side."""
    rows = [(group, radar_rows(rows)) for group, rows in comparison.groups()]
    groups = [(group, spokes) for group, spokes in rows if len(spokes) >= MIN_SPOKES]
    width = WIDTH * max(1, len(groups))
    top = plots.heading_height(width, num_names=len(comparison.columns)) + CAPTION

    def plot(figure: "Figure") -> None:
        plots.add_heading(figure, title, subtitle, legend=_legend(comparison))
        for number, (group, spokes) in enumerate(groups):
            axes = _radar_axes(figure, left=number * WIDTH, top=top)
            plot_radar(axes, spokes, comparison)
            axes.set_title(group.capitalize(), loc="center", pad=26)

    return plots.png(plot, width=width, height=top + RADAR_HEIGHT)


def bars_height(rows: Sequence[Row], comparison: Comparison) -> float:
    """Return the height of a bar chart, in points."""
    return AXIS + sum(_row_height(row, comparison) for row in rows)


def plot_bars(axes: "Axes", rows: Sequence[Row], comparison: Comparison) -> None:
    """Plot runs as bars with their intervals, and published models as markers on a line below.

    All are shares of the row's `most`.
    """
    bottom = bars_height(rows, comparison) - AXIS
    axes.set(xlim=(0, 1), ylim=(bottom, 0))
    axes.xaxis.tick_top()
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(visible=False)
    axes.vlines(axes.get_xticks(), 0, bottom, color=plots.colour("grid"), linewidth=0.8, zorder=0)
    axes.spines["bottom"].set_visible(False)
    top, middles = GAP / 2, list[float]()
    for row in rows:
        room = _row_height(row, comparison) - GAP
        middles.append(top + room / 2)
        for column in comparison.runs:
            if column.name in row.cells:
                _plot_bar(axes, row, column, y=top + BAR / 2, comparison=comparison)
                top += BAR
        if _published(row, comparison):
            _plot_published(axes, row, y=top + TRACK / 2, comparison=comparison)
            top += TRACK
        top += GAP
    axes.set_yticks(middles, labels=[_shorten(row.title) for row in rows])
    axes.tick_params(axis="y", labelcolor=plots.colour("ink"))


def plot_radar(axes: "PolarAxes", rows: Sequence[Row], comparison: Comparison) -> None:
    """Plot a spoke per row, from 0 in the middle to the row's `most`; areas of runs are filled."""
    angles = np.linspace(0, 2 * math.pi, len(rows) + 1)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1], labels=[])
    axes.grid(visible=True, axis="both")
    axes.spines["polar"].set_visible(False)
    axes.set_xticks(angles[:-1], labels=[_shorten(row.title) for row in rows])
    for angle, label in zip(angles, axes.get_xticklabels(), strict=False):
        side = math.sin(angle)
        label.set_horizontalalignment(
            "center" if abs(side) < 0.1 else "left" if side > 0 else "right"
        )
    axes.tick_params(axis="x", pad=0)
    colours = styles(comparison)
    for column in reversed(comparison.columns):  # runs last, on top
        cells = [row.cells.get(column.name) for row in rows]
        shares = [
            math.nan if cell is None else _share(row, cell.value)
            for row, cell in zip(rows, cells, strict=True)
        ]
        ring, shade = [*shares, shares[0]], plots.colour(colours[column.name])
        width = 1.1 if column.is_published else 2
        (line,) = axes.plot(angles, ring, color=shade, linewidth=width)
        plots.add_hint(line, column.title)
        if not column.is_published:
            if None not in cells:
                axes.fill(angles, ring, color=shade, alpha=0.15, linewidth=0)
            for row, angle, share in zip(rows, angles, shares, strict=False):
                (dot,) = axes.plot(angle, share, "o", color=shade, markersize=5)
                plots.add_hint(dot, _hint(row, column))


def _bars_axes(
    figure: "Figure",
    rows: Sequence[Row],
    comparison: Comparison,
    *,
    left: float = 0.0,
    top: float = 0.0,
) -> "Axes":
    """Return axes of one point per unit, so that bars are alike in all charts."""
    height = bars_height(rows, comparison) - AXIS
    corner = (left + LEFT, top + AXIS - 4)
    return _add_axes(figure, corner, width=RIGHT - LEFT, height=height)


def _radar_axes(figure: "Figure", *, left: float = 0.0, top: float = 0.0) -> "PolarAxes":
    corner = (left + WIDTH / 2 - RADIUS, top + RADAR_HEIGHT / 2 - RADIUS)
    axes = _add_axes(figure, corner, width=2 * RADIUS, height=2 * RADIUS, projection="polar")
    return cast("PolarAxes", axes)  # matplotlib types it as its base


def _add_axes(
    figure: "Figure",
    corner: tuple[float, float],
    *,
    width: float,
    height: float,
    projection: str | None = None,
) -> "Axes":
    """Add axes at a place in points, from the top left, which no layout moves."""
    across, up = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    left, bottom = corner[0], up - corner[1] - height
    figure.set_layout_engine("none")
    place = (left / across, bottom / up, width / across, height / up)
    return figure.add_axes(place, projection=projection)


def _legend(comparison: Comparison) -> "list[Artist]":
    """Return bars that name runs, and markers that name published models."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    for column, style in zip(comparison.columns, styles(comparison).values(), strict=True):
        shade, name = plots.colour(style), _shorten(column.title)
        if column.is_published:
            marker = _marker(column, comparison)
            handles.append(Line2D([], [], color=shade, marker=marker, linewidth=1, label=name))
        else:
            handles.append(Patch(color=shade, label=name))
    return handles


def _plot_bar(axes: "Axes", row: Row, column: Column, *, y: float, comparison: Comparison) -> None:
    cell, shade = row.cells[column.name], plots.colour(styles(comparison)[column.name])
    (bar,) = axes.barh(y, _share(row, cell.value), height=BAR - 3, color=shade)
    plots.add_hint(bar, _hint(row, column))
    if cell.interval is not None:
        low, high = (_share(row, value) for value in cell.interval)
        axes.plot([low, high], [y, y], "|-", color=plots.colour("ink"), linewidth=1, markersize=6)
    axes.text(1.02, y, f"{cell.value:.{row.digits}f}", va="center")


def _plot_published(axes: "Axes", row: Row, *, y: float, comparison: Comparison) -> None:
    axes.hlines(y, 0, 1, color=plots.colour("grid"), linewidth=0.8, zorder=1)
    for column in _published(row, comparison):
        (mark,) = axes.plot(
            _share(row, row.cells[column.name].value),
            y,
            _marker(column, comparison),
            color=plots.colour(styles(comparison)[column.name]),
            markeredgecolor=plots.colour("paper"),
            markersize=7.5,
            clip_on=False,
        )
        plots.add_hint(mark, _hint(row, column))


def _published(row: Row, comparison: Comparison) -> list[Column]:
    return [c for c in comparison.columns if c.is_published and c.name in row.cells]


def _row_height(row: Row, comparison: Comparison) -> float:
    num_bars = sum(column.name in row.cells for column in comparison.runs)
    return num_bars * BAR + (TRACK if _published(row, comparison) else 0) + GAP


def _marker(column: Column, comparison: Comparison) -> str:
    return plots.MARKERS[comparison.columns.index(column)]


def _hint(row: Row, column: Column) -> str:
    return f"{row.title}, {column.title}: {row.say(column)}"


def _share(row: Row, value: float) -> float:
    return min(max(value / row.most, 0.0), 1.0)


def _shorten(title: str) -> str:
    return title if len(title) <= MAX_NAME else f"{title[: MAX_NAME - 2]}..."
