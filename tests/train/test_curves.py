"""The curves of a run: what is drawn, joined, marked and added up."""

import math
import re

import pytest
from PIL import Image

from onevision.errors import InputError
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


def chart_of(page, title):
    return page.split(f"<h2>{title}</h2>")[1].split("</svg>")[0]


def curves(chart, style="s0"):
    """Return the points of every stretch in one colour."""
    found = re.findall(rf'<polyline class="{style}" points="([^"]*)"', chart)
    return [[tuple(map(float, p.split(","))) for p in points.split()] for points in found]


def dots(chart, style="s0"):
    return chart.count(f'<circle class="{style}"')


def marks(chart, style):
    return chart.count(f'<path class="{style}"')


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
    assert (0x17, 0x68, 0xD6) in colours  # the smoothed curve


def test_every_promised_chart_is_there(directory):
    record(directory, {1: {}, 2: {}})
    titles = re.findall("<h2>(.*?)</h2>", page_of(directory))
    assert titles == [
        "Loss",
        "Loss by source, smoothed",
        "Learning rate",
        "Gradient norm, before clipping",
        "Tokens a second",
        "Time spent waiting for data",
    ]


def test_one_step_is_a_dot(directory):
    record(directory, {1: {}})
    loss = chart_of(page_of(directory), "Loss")
    assert dots(loss) == dots(loss, "s0 faint") == 1
    assert curves(loss) == []
    assert ">1</text>" in loss


def test_a_falling_loss_falls_from_left_to_right(directory):
    record(directory, {step: {} for step in range(1, 11)})
    ((first, *_, last),) = curves(chart_of(page_of(directory), "Loss"))
    assert first[0] == 46
    assert last[0] == 422
    assert first[1] < last[1]  # an SVG counts downwards


def test_a_gap_in_the_log_is_not_joined(directory):
    record(directory, {step: {} for step in (*range(1, 11), *range(50, 61))})
    stretches = curves(chart_of(page_of(directory), "Tokens a second"))
    assert [len(one) for one in stretches] == [10, 11]


def test_a_log_of_every_twentieth_step_has_no_gaps(directory):
    record(directory, {step: {} for step in range(20, 201, 20)})
    assert len(curves(chart_of(page_of(directory), "Loss"))) == 1


def test_a_loss_that_is_not_finite_is_marked_and_not_joined(directory):
    odd = {5: {"loss": math.nan}, 8: {"loss": math.inf, "skipped": True}}
    record(directory, {step: odd.get(step, {}) for step in range(1, 11)})
    page = page_of(directory)
    loss = chart_of(page, "Loss")
    assert [len(one) for one in curves(loss)] == [4, 2, 2]
    assert marks(loss, "odd") == marks(loss, "skipped") == 1
    assert "skipped steps <b>1</b>" in page
    assert "losses not finite <b>1</b>" in page


def test_a_run_without_any_finite_value_says_so(directory):
    bad = {"loss": math.nan, "grad_norm": math.inf, "loss_per_source": {"scenes": math.nan}}
    record(directory, {1: bad, 2: bad})
    page = page_of(directory)
    assert "nothing recorded" in chart_of(page, "Loss")
    assert "<th>scenes<td>2<td>not finite" in page


def test_a_run_without_sources_or_rates_is_drawn(directory):
    record(directory, {1: {"loss_per_source": {}, "learning_rates": {}}})
    assert "nothing recorded" in chart_of(page_of(directory), "Learning rate")


def test_a_chart_has_eight_sources_and_the_table_all(directory):
    sources = {f"source-{n}": 1.0 for n in range(12)}
    record(directory, {step: {"loss_per_source": sources} for step in (1, 2)})
    page = page_of(directory)
    chart = chart_of(page, "Loss by source, smoothed")
    assert sum(len(curves(chart, f"s{n}")) for n in range(12)) == 8
    assert page.count("<th>source-") == 12


def test_a_source_that_is_rarely_seen_is_one_curve(directory):
    seen = {"loss_per_source": {"rare": 1.0}}
    unseen = {"loss_per_source": {}}
    record(directory, {step: seen if step % 10 == 1 else unseen for step in range(1, 42)})
    (curve,) = curves(chart_of(page_of(directory), "Loss by source, smoothed"))
    assert len(curve) == 5


def test_names_cannot_become_markup(tmp_path):
    directory = tmp_path / "<b>run"
    record(directory, {1: {"loss_per_source": {"<script>": 1.0}, "stage": "<i>"}})
    page = page_of(directory)
    assert "<script" not in page
    assert "<b>run" not in page
    assert "<i>:" not in page


def test_a_long_run_stays_a_small_page_and_keeps_its_spikes(directory):
    directory.mkdir()
    spike = {701: {"grad_norm": 5000.0}}
    record(directory, {step: spike.get(step, {}) for step in range(1, 3001)})
    page = page_of(directory)
    assert len(page) < 200_000
    assert ">1000</text>" in chart_of(page, "Gradient norm, before clipping")
    (curve,) = curves(chart_of(page, "Gradient norm, before clipping"), "s0 faint")
    assert min(y for _, y in curve) < 20


def test_what_cannot_be_drawn_is_said(directory):
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
