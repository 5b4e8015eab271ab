"""Scores of items -> how sure a figure is, and whether two runs differ.

The bootstrap draws items again, with replacement, and looks how far the figure moves; items that
stand or fall together (questions about one image) are drawn together, as a unit. A seed makes it
repeatable. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 (intervals
by percentiles) and 16 (tests); McNemar (1947) in its exact, binomial form.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
MEAN_RESAMPLES = 10_000
# Figures that are no mean are computed again for every draw: fewer draws, the fewer the more items.
MAX_RESAMPLES, MIN_RESAMPLES, MAX_ITEMS_DRAWN = 1000, 200, 20_000_000
CELLS_AT_ONCE = 1 << 22

Item = TypeVar("Item")
# Items, drawn unit by unit (a unit may come more than once) -> a figure.
Statistic = Callable[[Sequence[Sequence[Item]]], float]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure, and the interval that holds it with the probability `level`."""

    value: float
    low: float
    high: float
    level: float = LEVEL
    num_resamples: int
    num_units: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much larger a figure is in the second run, with its interval.

    `p` is two-sided: how often a difference of no sign would look as large as this one.
    """

    value: float
    low: float
    high: float
    p: float
    level: float = LEVEL
    num_resamples: int
    num_units: int


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Items that one run alone got right, and the exact two-sided p of such an imbalance."""

    only_first: int
    only_second: int
    p: float


def mean_interval(
    values: Sequence[float],
    *,
    units: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Return the mean of `values` and its bootstrap interval; `units` names each value's unit."""
    assert values, "no values, no mean"
    sums, counts = _by_unit(np.asarray(values, dtype=float), units)
    means = _drawn_means(sums, counts, seed=seed)
    low, high = _percentiles(means, level)
    return Interval(
        value=math.fsum(values) / len(values),
        low=low,
        high=high,
        level=level,
        num_resamples=len(means),
        num_units=len(sums),
    )


def bootstrap_interval(
    units: Sequence[Sequence[Item]],
    statistic: Statistic[Item],
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Return any figure of the items of `units`, and its bootstrap interval."""
    rng, num_resamples = np.random.default_rng(seed), _resamples(sum(map(len, units)))
    drawn = np.empty(num_resamples)
    for number in range(num_resamples):
        chosen = rng.integers(len(units), size=len(units))
        drawn[number] = statistic([units[i] for i in chosen])
    low, high = _percentiles(drawn, level)
    return Interval(
        value=statistic(units),
        low=low,
        high=high,
        level=level,
        num_resamples=num_resamples,
        num_units=len(units),
    )


def paired_means(
    first: Sequence[float],
    second: Sequence[float],
    *,
    units: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Compare the means of two runs over the same items, in the same order."""
    change = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    sums, counts = _by_unit(change, units)
    drawn = _drawn_means(sums, counts, seed=seed)
    return _difference(float(change.mean()), drawn, level=level, num_units=len(sums))


def paired_bootstrap(
    first: Sequence[Sequence[Item]],
    second: Sequence[Sequence[Item]],
    statistic: Statistic[Item],
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Compare any figure of two runs: every draw takes the same units of both."""
    assert len(first) == len(second)
    rng, num_resamples = np.random.default_rng(seed), _resamples(2 * sum(map(len, first)))
    drawn = np.empty(num_resamples)
    for number in range(num_resamples):
        chosen = rng.integers(len(first), size=len(first))
        drawn[number] = statistic([second[i] for i in chosen]) - statistic(
            [first[i] for i in chosen]
        )
    value = statistic(second) - statistic(first)
    return _difference(value, drawn, level=level, num_units=len(first))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Compare two runs by the items that only one of them got right."""
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    p = 1.0 if total == 0 else min(1.0, 2 * tail / 2**total)  # whole numbers: exact
    return McNemar(only_first=only_first, only_second=only_second, p=p)


def _difference(
    value: float, drawn: NDArray[np.float64], *, level: float, num_units: int
) -> Difference:
    low, high = _percentiles(drawn, level)
    at_most = (1 + int((drawn <= 0).sum())) / (1 + len(drawn))
    at_least = (1 + int((drawn >= 0).sum())) / (1 + len(drawn))
    return Difference(
        value=value,
        low=low,
        high=high,
        p=min(1.0, 2 * min(at_most, at_least)),
        level=level,
        num_resamples=len(drawn),
        num_units=num_units,
    )


def _by_unit(
    values: NDArray[np.float64], units: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the count of each unit's values."""
    if units is None:
        return values, np.ones_like(values)
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    index = np.array([numbers[unit] for unit in units])
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _drawn_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], *, seed: int
) -> NDArray[np.float64]:
    """Return the mean of each of MEAN_RESAMPLES draws of units."""
    rng, size = np.random.default_rng(seed), len(sums)
    step = max(1, CELLS_AT_ONCE // size)
    drawn = []
    for begin in range(0, MEAN_RESAMPLES, step):
        chosen = rng.integers(size, size=(min(step, MEAN_RESAMPLES - begin), size))
        drawn.append(sums[chosen].sum(1) / counts[chosen].sum(1))
    return np.concatenate(drawn)


def _percentiles(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resamples(num_items: int) -> int:
    return int(np.clip(MAX_ITEMS_DRAWN // max(1, num_items), MIN_RESAMPLES, MAX_RESAMPLES))
