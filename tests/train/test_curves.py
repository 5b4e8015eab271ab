"""The curves of a run: what is plotted, joined, marked and added up."""

import html
import math
import re
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from onevision.errors import InputError
from onevision.train.report.charts import make_charts
from onevision.train.report.curves import plot_chart, read_run
from onevision.train.report.curves import write_curves as write
from onevision.train.report.metrics import MetricsLog
from tests.train.test_metrics import measured


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "run"


def record(directory, changes_by_step, **options):
    with MetricsLog(directory, **options) as log:
        for step, changes in changes_by_step.items():
            log.write(measured(step, **changes))


@pytest.fixture
def plotted(directory):
    """Plot one chart of the run, by its title; returns the axes."""

    def plot(title):
        run = read_run(directory)
        (chart,) = [chart for chart in make_charts(run) if chart.title == title]
        axes = Figure().subplots()
        plot_chart(axes, chart, run)
        return axes

    return plot


def stretches(line):
    """Return the points of a line, from break to break."""
    x, y = line.get_data()
    breaks = np.flatnonzero(~np.isfinite(np.asarray(y, float)))
    parts = np.split(np.column_stack([x, y]), breaks)
    finite = [part[np.isfinite(part[:, 1])] for part in parts]
    return [part for part in finite if len(part)]


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def page_of(directory):
    return write(directory).read_text(encoding="utf-8")


def test_a_run_gets_a_picture_and_a_page(directory):
    record(directory, {step: {} for step in range(1, 40)})
    assert write(directory) == directory / "report.html"
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["curves.png", "metrics.jsonl", "report.html"]
    with Image.open(directory / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1500
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    assert (0x00, 0x72, 0xB2) in colours  # the smoothed curve


def test_every_promised_chart_is_there(directory):
    record(directory, {1: {}, 2: {}})
    titles = re.findall('aria-label="(.*?), by step"', page_of(directory))
    assert titles == [
        "Loss (nats)",
        "Loss by source, smoothed (nats)",
        "Learning rate",
        "Gradient norm, before clipping",
        "Tokens per second",
        "Time spent waiting for data",
    ]


def test_a_run_without_matplotlib_gets_a_page_without_curves(directory, monkeypatch):
    record(directory, {1: {}, 2: {}})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    heard = []
    page = write(directory, warn=heard.append).read_text()
    missing = "plots need matplotlib: pip install 'onevision[plots]'"
    assert heard == [f"{directory / 'report.html'} has no curves: {missing}"]
    assert html.escape(missing) in page
    assert "<th>tokens<td>2,000" in page
    assert not (directory / "curves.png").exists()


def test_one_step_is_a_dot(directory, plotted):
    record(directory, {1: {}})
    axes = plotted("Loss (nats)")
    dots = [line for line in axes.get_lines() if line.get_marker() == "."]
    assert [line.get_xydata().tolist() for line in dots] == [[[1, 2]], [[1, 2]]]


def test_a_falling_loss_falls_from_left_to_right(directory, plotted):
    record(directory, {step: {} for step in range(1, 11)})
    axes = plotted("Loss (nats)")
    _, smoothed = axes.get_lines()
    ((first, *_, last),) = stretches(smoothed)
    assert (first[0], last[0]) == axes.get_xlim() == (1, 10)
    assert first[1] > last[1]
    assert not axes.yaxis_inverted()


def test_a_gap_in_the_log_is_not_joined(directory, plotted):
    record(directory, {step: {} for step in (*range(1, 11), *range(50, 61))})
    parts = stretches(plotted("Tokens per second").get_lines()[1])
    assert [len(part) for part in parts] == [10, 11]


def test_a_log_of_every_twentieth_step_has_no_gaps(directory, plotted):
    record(directory, {step: {} for step in range(20, 201, 20)})
    assert len(stretches(plotted("Loss (nats)").get_lines()[1])) == 1


def test_a_loss_that_is_not_finite_is_marked_and_not_joined(directory, plotted):
    odd = {5: {"loss": math.nan}, 8: {"loss": math.inf, "skipped": True}}
    record(directory, {step: odd.get(step, {}) for step in range(1, 11)})
    axes = plotted("Loss (nats)")
    assert [len(part) for part in stretches(axes.get_lines()[1])] == [4, 2, 2]
    marks = [line.get_xdata().tolist() for line in axes.get_lines() if line.get_marker() == "^"]
    assert marks == [[8], [5]]
    assert labels(axes)[2:] == ["skipped steps 1", "losses not finite 1"]


def test_a_run_without_any_finite_value_says_so(directory, plotted):
    bad = {"loss": math.nan, "grad_norm": math.inf, "loss_per_source": {"scenes": math.nan}}
    record(directory, {1: bad, 2: bad})
    assert [text.get_text() for text in plotted("Loss (nats)").texts] == ["nothing recorded"]
    assert "<th>scenes<td>2<td>not finite" in page_of(directory)


def test_a_run_without_sources_or_rates_has_empty_charts(directory):
    record(directory, {1: {"loss_per_source": {}, "learning_rates": {}}})
    assert page_of(directory).count("nothing recorded") == 2


def test_a_chart_has_eight_sources_and_the_table_all(directory, plotted):
    sources = {f"source-{n}": 1.0 for n in range(12)}
    record(directory, {step: {"loss_per_source": sources} for step in (1, 2)})
    axes = plotted("Loss by source, smoothed (nats)")
    assert labels(axes) == [f"source-{n} 1" for n in range(8)]
    assert len({line.get_color() for line in axes.get_lines()}) == 8
    assert page_of(directory).count("<th>source-") == 12


def test_a_source_that_is_rarely_seen_is_one_curve(directory, plotted):
    seen = {"loss_per_source": {"rare": 1.0}}
    unseen = {"loss_per_source": {}}
    record(directory, {step: seen if step % 10 == 1 else unseen for step in range(1, 42)})
    (line,) = plotted("Loss by source, smoothed (nats)").get_lines()
    assert [len(part) for part in stretches(line)] == [5]


def test_names_cannot_become_markup(tmp_path):
    directory = tmp_path / "<b>run"
    names = {"<script>": 1.0, "$x$_{": 1.0, "数学": 1.0}
    record(directory, {1: {"loss_per_source": names, "stage": "<i>"}})
    page = page_of(directory)
    assert "<script" not in page
    assert "<b>run" not in page
    assert "<i>:" not in page
    assert page.count("$x$_{") == page.count("数学") == 2  # in the chart and in the table


def test_a_scale_is_logarithmic_where_values_span_decades(directory, plotted):
    record(directory, {step: {"grad_norm": 10.0 ** (step % 3)} for step in range(1, 30)})
    axes = plotted("Gradient norm, before clipping")
    assert axes.get_yscale() == "log"
    axes.figure.draw_without_rendering()
    assert {"1", "10", "100"} <= {text.get_text() for text in axes.get_yticklabels()}
    assert plotted("Loss (nats)").get_yscale() == "linear"


def test_a_long_run_stays_a_small_page_and_keeps_its_spikes(directory, plotted):
    directory.mkdir()
    spike = {701: {"grad_norm": 5000.0}}
    record(directory, {step: spike.get(step, {}) for step in range(1, 3001)})
    assert len(page_of(directory)) < 200_000
    raw = plotted("Gradient norm, before clipping").get_lines()[0]
    assert raw.get_ydata().max() == 5000


def test_metrics_that_cannot_be_plotted_are_named(directory):
    with pytest.raises(InputError, match="no such file; give a directory"):
        write(directory)
    directory.mkdir()
    path = directory / "metrics.jsonl"
    path.write_text("")
    with pytest.raises(InputError, match="no step is recorded yet"):
        write(directory)
    path.write_text('{"step": 20, "loss": 1.0}\n')
    with pytest.raises(InputError, match="lines lack data_seconds, flops, grad_norm"):
        write(directory)
    path.unlink()
    record(directory, {1: {"stage": "align"}, 2: {"stage": "onevision"}})
    with pytest.raises(InputError, match="holds steps of align, onevision; expected one stage"):
        write(directory)
