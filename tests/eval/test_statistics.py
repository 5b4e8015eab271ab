"""Figures worked out by hand, and known cases."""

import math

import numpy as np
import pytest

from onevision.eval.statistics import (
    MEAN_RESAMPLES,
    bootstrap_interval,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_means,
    proportion_interval,
)


def half_right(count):
    return [index % 2 == 0 for index in range(count)]


def test_the_interval_of_a_proportion_is_the_binomials():
    # 95 % of binomial(100, 1/2) lie from 40 to 60: P(X <= 39) = 0.0176, P(X <= 40) = 0.0284.
    interval = mean_interval(half_right(100))
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.40, abs=0.011)
    assert interval.high == pytest.approx(0.60, abs=0.011)
    assert (interval.num_units, interval.num_resamples) == (100, MEAN_RESAMPLES)


def test_the_width_is_two_times_1_96_standard_errors():
    values = np.random.default_rng(1).normal(size=2000).tolist()
    interval = mean_interval(values)
    width = 2 * 1.96 * np.std(values) / math.sqrt(len(values))
    assert interval.high - interval.low == pytest.approx(width, rel=0.03)


def test_equal_values_leave_no_doubt():
    interval = mean_interval([0.25] * 8)
    assert (interval.low, interval.value, interval.high) == (0.25, 0.25, 0.25)


def test_two_values_have_three_means():
    # Of two draws from {0, 1}: 0 in a quarter of the cases, 1 in a quarter.
    interval = mean_interval([0, 1], level=0.4)
    assert (interval.low, interval.high) == (0.5, 0.5)
    interval = mean_interval([0, 1], level=0.8)
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_the_seed_decides():
    values = np.random.default_rng(2).random(50).tolist()
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_values_of_a_unit_are_drawn_together():
    # Ten units of ten equal values tell as much as ten values.
    values = [float(unit % 2) for unit in range(10) for _ in range(10)]
    units = [unit for unit in range(10) for _ in range(10)]
    together, alone = mean_interval(values, units=units), mean_interval(half_right(10))
    assert (together.low, together.high) == (alone.low, alone.high)
    apart = mean_interval(values)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_units_of_different_size_weigh_by_their_values():
    assert mean_interval([1, 0, 0, 0], units=["a", "b", "b", "b"]).value == 0.25


def test_any_figure_has_an_interval():
    values = [float(n) for n in range(101)]

    def median(units):
        return float(np.median([value for unit in units for value in unit]))

    interval = bootstrap_interval([[value] for value in values], median)
    assert interval.value == 50
    assert 35 < interval.low < 45 and 55 < interval.high < 65


def test_the_general_way_agrees_with_that_of_means():
    values = np.random.default_rng(5).random(60).tolist()
    general = bootstrap_interval([[v] for v in values], lambda units: sum(u[0] for u in units) / 60)
    special = mean_interval(values)
    assert general.value == pytest.approx(special.value)
    assert general.low == pytest.approx(special.low, abs=0.01)
    assert general.high == pytest.approx(special.high, abs=0.01)


def test_runs_that_agree_do_not_differ():
    difference = paired_means(half_right(40), half_right(40))
    assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_a_change_of_every_item_is_certain_however_much_items_differ():
    first = np.random.default_rng(6).normal(scale=100, size=200)
    difference = paired_means(first.tolist(), (first + 1).tolist())
    assert difference.value == pytest.approx(1)
    assert difference.low == pytest.approx(1) and difference.high == pytest.approx(1)
    assert difference.p == pytest.approx(1 / (MEAN_RESAMPLES + 1))


@pytest.mark.parametrize(
    ("changes", "p"),
    [
        ([1], 1.0),  # one item cannot tell: the exchanged runs differ as much
        ([0], 1.0),
        ([1, 1], 2 / 4),
        ([1] * 5, 2 / 32),
        ([1] * 9 + [-1], 2 * (1 + 10) / 1024),
        ([0.5, 0.25], 2 / 4),
        ([0.5, -0.25], 1.0),
    ],
)
def test_few_items_are_exchanged_in_every_way(changes, p):
    nothing = [0.0] * len(changes)
    assert paired_means(nothing, changes).p == pytest.approx(p)
    assert paired_means(changes, nothing).p == pytest.approx(p)
    units = ([[one] for one in values] for values in (nothing, changes))
    mean = paired_bootstrap(*units, lambda units: sum(u[0] for u in units) / len(units))
    assert mean.p == pytest.approx(p, abs=0.03)  # of ten items it is a sample
    if set(changes) <= {0, 1, -1}:
        first = [change == -1 for change in changes]
        assert mcnemar(first, [change == 1 for change in changes]).p == pytest.approx(p)


def test_items_of_one_unit_are_exchanged_together():
    assert paired_means([0.0] * 6, [1.0] * 6, units=["a"] * 6).p == 1
    assert paired_means([0.0] * 6, [1.0] * 6, units=list("aabbcc")).p == 2 / 8


def test_the_interval_of_a_share_is_wilsons():
    # Wilson's for 8 of 10: 0.490 to 0.943, and for 16 of 16: from 16 / (16 + 1.96^2).
    some, all_right = proportion_interval(8, 10), proportion_interval(16, 16)
    assert (some.low, some.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert (all_right.low, all_right.high) == pytest.approx((16 / (16 + 1.96**2), 1.0))


def test_the_sign_is_that_of_the_second_less_the_first():
    assert paired_means([1, 1, 0], [0, 0, 0]).value == pytest.approx(-2 / 3)


def test_chance_is_found_in_five_of_a_hundred_cases():
    rng = np.random.default_rng(7)
    found = sum(
        paired_means(*(rng.random((2, 60)) < 0.5).astype(float).tolist()).p < 0.05
        for _ in range(200)
    )
    assert 2 <= found <= 20


def test_pairs_of_any_figure():
    first, second = [[float(n % 2)] for n in range(50)], [[1.0] for _ in range(50)]
    change = paired_bootstrap(first, second, lambda units: sum(u[0] for u in units) / len(units))
    assert change.value == 0.5
    assert 0.3 < change.low < change.high < 0.7
    assert change.p < 0.01


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (5, 0, 2 / 32),  # five heads, two-sided
        (1, 9, 2 * (1 + 10) / 1024),
        (10, 10, 1.0),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_is_the_toss_of_a_coin(only_first, only_second, p):
    first = [True] * only_first + [False] * only_second + [True] * 7 + [False] * 4
    second = [False] * only_first + [True] * only_second + [True] * 7 + [False] * 4
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p == pytest.approx(p)


def test_mcnemar_stands_large_counts():
    assert mcnemar([True] * 3000 + [False] * 2000, [False] * 3000 + [True] * 2000).p < 1e-40
