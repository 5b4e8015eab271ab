"""Curves of probes -> SVG for a page, or one PNG of all of them.

Lines are shares of right answers, with their 95 % intervals; the shaded levels are those that the
procedural worlds have in training. Dashed is the model with grey media, dotted a constant answer.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL.Image import Dither

from onevision import plots
from onevision.inputs.media import open_image
from onevision.science.probes.results import Curve

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 330, 210  # of one curve, in points
COLUMNS, PANEL_HEIGHT = 3, 160  # of the sheet
PERCENT = ((0, 0.25, 0.5, 0.75, 1), ("0 %", "25 %", "50 %", "75 %", "100 %"))
LONG_LABEL = 7
NUM_COLOURS = 64
NAMES = ("right", "with grey media", "constant answer")
SUBTITLE = "right answers, their 95 % intervals, and baselines; shaded: seen in training"


def curve_svg(curve: Curve) -> str:
    """Returns one probe's curve."""

    def plot(figure: "Figure") -> None:
        _plot_curve(figure.subplots(), curve)

    return plots.svg(plot, width=WIDTH, height=HEIGHT, label=f"{curve.probe.name}: accuracy")


def sheet_png(curves: Sequence[Curve], *, title: str) -> bytes:
    """Returns all curves, three in a row, on one scale."""
    rows, width = math.ceil(len(curves) / COLUMNS), COLUMNS * WIDTH
    top = plots.heading_height(width, num_names=len(NAMES))

    def plot(figure: "Figure") -> None:
        plots.add_heading(figure, title, SUBTITLE, legend=_legend())
        places = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
        for axes, curve in zip(places, curves, strict=False):
            _plot_curve(axes, curve)
            axes.set_title(curve.probe.name, fontsize=11)
        for axes in places[len(curves) :]:
            axes.set_axis_off()

    return few_colours(plots.png(plot, width=width, height=top + rows * PANEL_HEIGHT))


def few_colours(picture: bytes) -> bytes:
    """Returns a PNG with a palette, a third as large."""
    file = io.BytesIO()
    open_image(picture).quantize(NUM_COLOURS, dither=Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _plot_curve(axes: "Axes", curve: Curve) -> None:
    shade, points = plots.colour("s0"), curve.points
    places = range(len(points))
    for place, point in zip(places, points, strict=True):
        if point.level.trained:
            axes.axvspan(place - 0.5, place + 0.5, color=plots.colour("grid"), alpha=0.45, lw=0)
    axes.fill_between(
        places, [p.accuracy.low for p in points], [p.accuracy.high for p in points],
        color=shade, alpha=0.18, lw=0,
    )  # fmt: skip
    axes.plot(places, [p.constant for p in points], ":", color=plots.colour("s7"))
    axes.plot(places, [p.blind.value for p in points], "--", color=plots.colour("s1"))
    axes.plot(places, [p.accuracy.value for p in points], color=shade)
    for place, point in zip(places, points, strict=True):
        (mark,) = axes.plot(place, point.accuracy.value, "o", color=shade, clip_on=False)
        share = point.accuracy
        plots.add_hint(
            mark,
            f"{point.level.label}: {100 * share.value:.1f} % "
            f"({100 * share.low:.1f} to {100 * share.high:.1f})",
        )
    labels = [point.level.label for point in points]
    axes.set_xticks(list(places), labels, fontsize=8.5)
    if max(map(len, labels)) > LONG_LABEL:
        axes.tick_params(axis="x", labelrotation=25)
    axes.set_yticks(*PERCENT, fontsize=8.5)
    axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(0, 1))
    axes.set_xlabel(curve.probe.title, fontsize=9)


def _legend() -> "list[Artist]":
    from matplotlib.lines import Line2D

    right, blind, constant = NAMES
    return [
        Line2D([], [], color=plots.colour("s0"), label=right),
        Line2D([], [], color=plots.colour("s1"), linestyle="--", label=blind),
        Line2D([], [], color=plots.colour("s7"), linestyle=":", label=constant),
    ]
