"""Rows of a table -> bar charts and radars: an SVG per group, or a PNG of all groups."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from onevision import plots
from onevision.errors import InputError
from onevision.eval.report.table import Column, PublishedTable, TableRow

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
Kind = Literal["bars", "radar"]
KINDS: tuple[Kind, ...] = ("bars", "radar")
MAX_NAME = 19  # characters


def styles(table: PublishedTable) -> Mapping[str, str]:
    """Returns the style of every column. Raises InputError if there are too many columns."""
    if len(table.columns) > len(plots.SERIES):
        raise InputError(
            f"{len(table.columns)} models in one plot; expected {len(plots.SERIES)} at most: "
            "give fewer runs, or fewer published models"
        )
    return {c.name: style for c, style in zip(table.columns, plots.SERIES, strict=False)}


def group_svgs(group: str, rows: Sequence[TableRow], table: PublishedTable) -> list[str]:
    """Returns the bar chart of a group, and its radar if enough rows are suited to one."""
    return [
        plots.svg(
            partial(_add_chart, kind=kind, rows=chosen, table=table),
            width=WIDTH,
            height=_height(kind, chosen, table),
            label=f"{group}, {kind}",
        )
        for kind in KINDS
        if (chosen := rows_for(kind, rows))
    ]


def sheet_png(kind: Kind, table: PublishedTable, *, title: str, subtitle: str) -> bytes:
    """Returns the charts of one kind, of all groups side by side, under a heading."""
    groups = {g: chosen for g, rows in table.groups() if (chosen := rows_for(kind, rows))}
    width = WIDTH * max(1, len(groups))
    top = plots.heading_height(width, num_names=len(table.columns)) + CAPTION

    def plot(figure: "Figure") -> None:
        plots.add_heading(figure, title, subtitle, legend=_legend(table))
        for number, (group, rows) in enumerate(groups.items()):
            corner = (number * WIDTH, top)
            axes = _add_chart(figure, kind=kind, rows=rows, table=table, corner=corner)
            axes.set_title(group.capitalize(), pad=10 if kind == "bars" else 26)

    heights = [_height(kind, rows, table) for rows in groups.values()]
    return plots.png(plot, width=width, height=top + max(heights, default=0))


def rows_for(kind: Kind, rows: Sequence[TableRow]) -> list[TableRow]:
    """Returns the rows that a chart shows: a radar those of several models, if there are enough."""
    if kind == "bars":
        return list(rows)
    shared = [row for row in rows if len(row.cells) > 1]
    return shared if len(shared) >= MIN_SPOKES else []


def _add_chart(
    figure: "Figure",
    *,
    kind: Kind,
    rows: Sequence[TableRow],
    table: PublishedTable,
    corner: tuple[float, float] = (0, 0),
) -> "Axes":
    """Plots a chart at a corner in points from the top left; bars are alike in all charts."""
    figure.set_layout_engine("none")
    across, up = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    left, top, width = corner[0] + LEFT, corner[1] + AXIS - 4, RIGHT - LEFT
    height = _height(kind, rows, table) - AXIS
    if kind == "radar":
        left, top = corner[0] + WIDTH / 2 - RADIUS, corner[1] + RADAR_HEIGHT / 2 - RADIUS
        width = height = 2 * RADIUS
    place = (left / across, (up - top - height) / up, width / across, height / up)
    if kind == "bars":
        axes = figure.add_axes(place)
        plot_bars(axes, rows, table)
        return axes
    polar = cast("PolarAxes", figure.add_axes(place, projection="polar"))  # typed as its base
    plot_radar(polar, rows, table)
    return polar


def _height(kind: Kind, rows: Sequence[TableRow], table: PublishedTable) -> float:
    if kind == "radar":
        return RADAR_HEIGHT
    return AXIS + sum(_row_height(row, table) for row in rows)


def plot_bars(axes: "Axes", rows: Sequence[TableRow], table: PublishedTable) -> None:
    """Plots runs as bars with their intervals, and published models as markers on a line below.

    All are shares of the row's `most`.
    """
    bottom = sum(_row_height(row, table) for row in rows)
    axes.set(xlim=(0, 1), ylim=(bottom, 0))
    axes.xaxis.tick_top()
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(visible=False)
    axes.vlines(axes.get_xticks(), 0, bottom, color=plots.colour("grid"), linewidth=0.8, zorder=0)
    axes.spines["bottom"].set_visible(False)
    top, middles = GAP / 2, list[float]()
    for row in rows:
        room = _row_height(row, table) - GAP
        middles.append(top + room / 2)
        for column in table.runs:
            if column.name in row.cells:
                _plot_bar(axes, row, column, y=top + BAR / 2, table=table)
                top += BAR
        if _published_columns(row, table):
            _plot_published(axes, row, y=top + TRACK / 2, table=table)
            top += TRACK
        top += GAP
    axes.set_yticks(middles, labels=[_shorten(row.title) for row in rows])
    axes.tick_params(axis="y", labelcolor=plots.colour("ink"))


def plot_radar(axes: "PolarAxes", rows: Sequence[TableRow], table: PublishedTable) -> None:
    """Plots a spoke per row, from 0 in the middle to the row's `most`; areas of runs are filled."""
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
    colours = styles(table)
    for column in reversed(table.columns):  # runs last, on top
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


def _legend(table: PublishedTable) -> "list[Artist]":
    """Returns bars that name runs, and markers that name published models."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    for column, style in zip(table.columns, styles(table).values(), strict=True):
        shade, name = plots.colour(style), _shorten(column.title)
        if column.is_published:
            marker = _marker(column, table)
            handles.append(Line2D([], [], color=shade, marker=marker, linewidth=1, label=name))
        else:
            handles.append(Patch(color=shade, label=name))
    return handles


def _plot_bar(
    axes: "Axes", row: TableRow, column: Column, *, y: float, table: PublishedTable
) -> None:
    cell, shade = row.cells[column.name], plots.colour(styles(table)[column.name])
    (bar,) = axes.barh(y, _share(row, cell.value), height=BAR - 3, color=shade)
    plots.add_hint(bar, _hint(row, column))
    if cell.interval is not None:
        low, high = (_share(row, value) for value in cell.interval)
        axes.plot([low, high], [y, y], "|-", color=plots.colour("ink"), linewidth=1, markersize=6)
    axes.text(1.02, y, f"{cell.value:.{row.digits}f}", va="center")


def _plot_published(axes: "Axes", row: TableRow, *, y: float, table: PublishedTable) -> None:
    axes.hlines(y, 0, 1, color=plots.colour("grid"), linewidth=0.8, zorder=1)
    for column in _published_columns(row, table):
        (mark,) = axes.plot(
            _share(row, row.cells[column.name].value),
            y,
            _marker(column, table),
            color=plots.colour(styles(table)[column.name]),
            markeredgecolor=plots.colour("paper"),
            markersize=7.5,
            clip_on=False,
        )
        plots.add_hint(mark, _hint(row, column))


def _published_columns(row: TableRow, table: PublishedTable) -> list[Column]:
    return [c for c in table.columns if c.is_published and c.name in row.cells]


def _row_height(row: TableRow, table: PublishedTable) -> float:
    num_bars = sum(column.name in row.cells for column in table.runs)
    return num_bars * BAR + (TRACK if _published_columns(row, table) else 0) + GAP


def _marker(column: Column, table: PublishedTable) -> str:
    return plots.MARKERS[table.columns.index(column)]


def _hint(row: TableRow, column: Column) -> str:
    return f"{row.title}, {column.title}: {row.format(column)}"


def _share(row: TableRow, value: float) -> float:
    return min(max(value / row.most, 0.0), 1.0)


def _shorten(title: str) -> str:
    return title if len(title) <= MAX_NAME else f"{title[: MAX_NAME - 2]}..."
