"""The metrics.jsonl of a run -> curves.png and report.html, which show how it went.

Without matplotlib the page has only its tables, and there is no curves.png.
"""

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from onevision import plots
from onevision.errors import InputError
from onevision.files import write_bytes, write_text
from onevision.train.report.charts import (
    Chart,
    Curve,
    RunMetrics,
    Values,
    make_charts,
    short,
    smooth,
    summary,
    totals,
)
from onevision.train.report.metrics import METRICS, StepMetrics, read_metrics
from onevision.train.report.notes import VALIDATION, read_notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE = Template((Path(__file__).parent / "curves.html").read_text(encoding="utf-8"))
PICTURE, REPORT = "curves.png", "report.html"
WIDTH, HEIGHT, COLUMNS = 430, 300, 2  # of a chart, in points; charts per row of the picture
# Around what `add_section` writes into the page.
BEGIN, END = "<!-- section -->", "<!-- /section -->"
# A scale is logarithmic if the largest value is at least so many times the smallest.
LOGARITHMIC_FROM = 30.0
# Steps further apart than so many usual distances are not joined.
GAP = 3
# A longer curve is reduced to the lowest and the highest value of so many stretches.
MAX_STRETCHES = 300
MAX_NAME = 22  # characters in a legend


def write_curves(directory: Path, *, warn: Callable[[str], object] = str) -> Path:
    """Writes curves.png and report.html beside a run's metrics.jsonl; returns the page.

    Without matplotlib, `warn` is called once. Raises InputError unless the metrics are those of a
    single stage.
    """
    run = read_run(directory)
    charts = make_charts(run) if plots.is_installed() else ()
    if charts:
        rows = math.ceil(len(charts) / COLUMNS)
        picture = plots.png(
            lambda figure: plot_all(figure, charts, run),
            width=COLUMNS * WIDTH,
            height=rows * HEIGHT + plots.heading_height(COLUMNS * WIDTH),
        )
        write_bytes(directory / PICTURE, picture)
    else:
        warn(f"{directory / REPORT} has no curves: {plots.MISSING}")
    write_text(directory / REPORT, _page(run, charts))
    return directory / REPORT


def add_section(page: Path, section: str) -> None:
    """Writes HTML above the curves of a page by `write_curves`, in place of what was there.

    Raises OSError.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        write_text(page, f"{before}{begin}{section}{end}{after}")


def read_run(directory: Path) -> RunMetrics:
    """Reads the metrics of a run. Raises InputError."""
    path = directory / METRICS
    by_step = {line["step"]: line for line in read_metrics(path)}
    lines = tuple(by_step[step] for step in sorted(by_step))
    if not lines:
        raise InputError(f"{path}: no step is recorded yet; wait until the run has taken one")
    missing = {field.name for field in fields(StepMetrics)}.difference(
        {"statistics"},  # an objective's own
        set(lines[0]).intersection(*lines),
    )
    if missing:
        raise InputError(
            f"{path}: lines lack {', '.join(sorted(missing))}; read them with the release that "
            "wrote them"
        )
    stages = sorted({line["stage"] for line in lines})
    if len(stages) > 1:
        raise InputError(
            f"{path}: holds steps of {', '.join(stages)}; expected one stage: give every stage "
            "a directory of its own"
        )
    return RunMetrics(
        name=directory.resolve().name,
        lines=lines,
        validation=tuple(read_notes(directory / VALIDATION)),
    )


def plot_all(figure: "Figure", charts: Sequence[Chart], run: RunMetrics) -> None:
    """Plots all charts under the name and the summary of the run."""
    plots.add_heading(figure, run.name, summary(run))
    rows = math.ceil(len(charts) / COLUMNS)
    places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, chart in zip(places, charts, strict=False):
        plot_chart(axes, chart, run)
    for axes in places[len(charts) :]:
        axes.set_axis_off()


def plot_chart(axes: "Axes", chart: Chart, run: RunMetrics) -> None:
    """Plots the curves of a chart by step, with triangles on the axis where a step went wrong."""
    for curve in chart.curves:
        _plot_curve(axes, curve, run, label=f"{_shorten(curve.name)} {chart.last(curve)}".strip())
    _set_scales(axes, chart, run)
    if not len(chart.values):
        axes.text(0.5, 0.5, "nothing recorded", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
    _mark(axes, run.skipped_steps, "alert", "skipped steps")
    _mark(axes, run.not_finite_steps, "caution", "losses not finite")
    handles, _ = axes.get_legend_handles_labels()
    columns = 3 if len(handles) <= 3 else 2
    if handles:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns)
    axes.set_title(chart.title, pad=8 + 15 * math.ceil(len(handles) / columns))


def _plot_curve(axes: "Axes", curve: Curve, run: RunMetrics, *, label: str) -> None:
    """Plots a line that is broken at gaps, and a dot where a value has no neighbours."""
    steps, values = _thin(*_break_at_gaps(curve, run.steps))
    (line,) = axes.plot(steps, values, color=plots.colour(curve.style), label=label)
    if curve.is_faint:
        line.set(alpha=0.4, linewidth=1)
    finite = np.pad(np.isfinite(values), 1)
    lone = finite[1:-1] & ~finite[:-2] & ~finite[2:]
    if lone.any():
        axes.plot(steps[lone], values[lone], ".", color=line.get_color(), alpha=line.get_alpha())


def _mark(axes: "Axes", steps: Values, style: str, name: str) -> None:
    if len(steps):
        (marks,) = axes.plot(
            steps,
            np.zeros(len(steps)),
            "^",
            color=plots.colour(style),
            label=f"{name} {len(steps):,}",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
        plots.add_hint(marks, name)


def _set_scales(axes: "Axes", chart: Chart, run: RunMetrics) -> None:
    """Fits the scales to the plotted values; ticks are whole steps and round values."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    first, last = run.steps[[0, -1]].tolist()
    first = min([first, *(float(one.steps[0]) for one in chart.curves if len(one.steps))])
    room = 0.5 if first == last else 0.0
    axes.set(xlabel="step", xlim=(first - room, last + room))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(_formatter(short))
    low, high = (chart.values.min(), chart.values.max()) if len(chart.values) else (0, 1)
    if chart.from_zero:
        axes.set_ylim(min(0.0, low), high * 1.05 or 1.0)
    elif low > 0 and high / low >= LOGARITHMIC_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    elif low >= 0:
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    axes.yaxis.set_major_formatter(_formatter(chart.say))


def _formatter(say: Callable[[float], str]) -> Callable[[float, object], str]:
    """Returns how matplotlib asks for the words of a tick: by its value and its place."""
    return lambda value, _: say(value)


def _break_at_gaps(curve: Curve, recorded: Values) -> tuple[Values, Values]:
    """Returns the points of a curve, with a NaN where the log has a gap."""
    distances = np.diff(recorded)
    usual = np.median(distances) if len(distances) else 1.0
    ends = recorded[:-1][distances > GAP * usual]
    places = np.unique(np.searchsorted(curve.steps, ends, side="right"))
    places = places[(places > 0) & (places < len(curve.steps))]
    return np.insert(curve.steps, places, np.nan), np.insert(curve.values, places, np.nan)


def _thin(steps: Values, values: Values) -> tuple[Values, Values]:
    """Returns the lowest and the highest point of each stretch; breaks stay where they are."""
    if len(steps) <= 2 * MAX_STRETCHES:
        return steps, values
    broken = np.flatnonzero(~np.isfinite(values))
    bounds = np.linspace(0, len(steps), MAX_STRETCHES + 1).astype(int)
    bounds = np.unique(np.concatenate([bounds, broken, broken + 1]))
    stretches = [values[begin:end] for begin, end in pairwise(bounds.tolist())]
    kept = np.concatenate(
        [
            begin + np.array([one.argmin(), one.argmax()])
            for begin, one in zip(bounds, stretches, strict=False)
        ]
    )
    return steps[np.unique(kept)], values[np.unique(kept)]


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[:12]}...{name[-6:]}"


def _page(run: RunMetrics, charts: Sequence[Chart]) -> str:
    figures = [
        plots.svg(
            lambda figure, chart=chart: plot_chart(figure.subplots(), chart, run),
            width=WIDTH,
            height=HEIGHT,
            label=f"{chart.title}, by step",
        )
        for chart in charts
    ]
    return PAGE.substitute(
        title=html.escape(run.name),
        summary=html.escape(summary(run)),
        style=plots.style_sheet(),
        charts="\n".join(figures) or f"<p>No curves: {html.escape(plots.MISSING)}</p>",
        totals="".join(f"<tr><th>{k}<td>{html.escape(v)}" for k, v in totals(run).items()),
        sources="".join(_source_rows(run)),
    )


def _source_rows(run: RunMetrics) -> Iterator[str]:
    for name, (steps, values) in run.curves_within("loss_per_source").items():
        finite = smooth(values)[np.isfinite(values)]
        last = short(finite[-1]) if len(finite) else "not finite"
        yield f"<tr><th>{html.escape(name)}<td>{len(steps):,}<td>{last}"
