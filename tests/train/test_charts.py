"""What charts are made of: figures of a run, smoothing, numbers in words."""

import math

import numpy as np
import pytest

from onevision.train.report.charts import make_charts, percent, short, smooth, totals
from onevision.train.report.curves import read_run
from tests.train.test_curves import record


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "run"


def test_of_a_step_taken_twice_the_last_counts(directory):
    record(directory, {1: {"tokens": 10}, 2: {"tokens": 99}})
    record(directory, {2: {"tokens": 20}})
    assert totals(read_run(directory))["tokens"] == "30"


def test_totals_add_up(directory):
    record(directory, {1: {}, 2: {"memory_bytes": 3 * 2**30}, 4: {"seconds": 1.0}}, peak_flops=8e9)
    said = totals(read_run(directory))
    assert said["steps"] == "4 of 100"
    assert said["steps recorded"] == "3"
    assert said["samples"] == "32"
    assert said["tokens"] == "3,000"
    assert said["tokens with a label"] == "600 (20 %)"
    assert said["tokens per second"] == "1,500"  # 3,000 in two seconds
    assert said["waiting for data"] == "15 %"
    assert said["peak memory"] == "3.00 GiB"
    assert said["floating-point operations"] == "3G"
    assert said["model FLOPs utilisation"] == percent(3e9 / (2.0 * 8e9))


def test_time_is_that_of_the_clock(directory):
    times = iter([0.0, 93_780.0])
    record(directory, {1: {}}, clock=lambda: next(times))
    assert totals(read_run(directory))["time"] == "26 h 03 min"


def test_smoothing_is_an_average_that_skips_what_is_not_finite():
    smoothed = smooth(np.array([4.0, np.nan, 8.0]))
    assert smoothed[0] == 4.0
    assert math.isnan(smoothed[1])
    assert smoothed[2] == (0.75 * 4 + 8) / 1.75


def test_numbers_are_written_short():
    said = [short(v) for v in (0, 0.25, 7500, 10_000, 1_250_000, 5e-5, 0.001, 7.5e-4, 9e14)]
    assert said == ["0", "0.25", "7500", "10k", "1.25M", "5e-5", "1e-3", "7.5e-4", "900T"]


def test_smooth_and_raw_losses_are_both_there(directory):
    record(directory, {1: {}, 2: {}})
    raw, smoothed = make_charts(read_run(directory))[0].curves
    assert raw.is_faint
    assert raw.values.tolist() == [2.0, 1.0]
    assert smoothed.values.tolist() == [2.0, (0.75 * 2 + 1) / 1.75]


def test_what_only_some_runs_measure_has_a_chart_where_it_was_measured(directory, tmp_path):
    record(directory, {1: {}, 2: {}})
    plain = [chart.title for chart in make_charts(read_run(directory))]
    assert len(plain) == 6
    record(tmp_path / "known", {1: {}, 2: {}}, peak_flops=8e9)
    *charts, share = make_charts(read_run(tmp_path / "known"))
    assert [chart.title for chart in charts] == plain
    assert share.title == "Model FLOPs utilisation (MFU)"
    assert share.last(share.curves[1]) == "25 %"
