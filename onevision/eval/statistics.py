"""Scores of items -> confidence intervals, and whether two runs differ.

The bootstrap resamples items with replacement and looks how far a metric moves. Items that are not
independent (questions about one image) form a unit and are resampled together. A seed makes it
repeatable. Two runs are compared by exchanging them, unit by unit: if neither is better, the
difference is as likely as any that remains. Source: Efron and Tibshirani, An Introduction to the
Bootstrap (1993), ch. 13 (intervals by percentiles) and 15 (permutation tests); McNemar (1947) in
its exact, binomial form.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
MEAN_RESAMPLES = 10_000
# Metrics other than means are recomputed for every resample: the more items, the fewer resamples.
MAX_RESAMPLES, MIN_RESAMPLES, MAX_ITEMS_RESAMPLED = 1000, 200, 20_000_000
CELLS_AT_ONCE = 1 << 22
# Differences that are equal but for rounding.
SAME = 1e-9

Entry = TypeVar("Entry")
# Items, unit by unit (a unit may occur more than once) -> a metric.
Statistic = Callable[[Sequence[Sequence[Entry]]], float]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric and its confidence interval at `level`."""

    value: float
    low: float
    high: float
    level: float = LEVEL
    num_resamples: int
    num_units: int


@dataclass(frozen=True, kw_only=True)
class HeadlineDifference(Interval):
    """How much larger a metric is in the second run, with its confidence interval.

    `p` is the two-sided p-value of no difference, 1 for a single unit.
    """

    p: float


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Items that only one run got right, and the exact two-sided p-value of no difference."""

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
    """Returns the mean of `values` and its bootstrap interval; `units` names each value's unit."""
    assert values, "no values to average"
    sums, counts = _by_unit(np.asarray(values, dtype=float), units)
    means = _resample_means(sums, counts, seed=seed)
    value = math.fsum(values) / len(values)
    return _to_interval(value, means, level=level, num_units=len(sums))


def bootstrap_interval(
    units: Sequence[Sequence[Entry]],
    statistic: Statistic[Entry],
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Returns any metric of the items of `units`, and its bootstrap interval."""
    rng, num_resamples = np.random.default_rng(seed), _num_resamples(sum(map(len, units)))
    resampled = np.empty(num_resamples)
    for number in range(num_resamples):
        chosen = rng.integers(len(units), size=len(units))
        resampled[number] = statistic([units[i] for i in chosen])
    return _to_interval(statistic(units), resampled, level=level, num_units=len(units))


def proportion_interval(num_right: int, num_items: int, *, z: float = 1.96) -> Interval:
    """Returns a share and its interval of 95 % by normal quantile `z` (Wilson, 1927).

    It is not empty where all items are right, or none is.
    """
    share, spread = num_right / num_items, z * z / num_items
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return Interval(
        value=share,
        low=max(0.0, middle - half),
        high=min(1.0, middle + half),
        num_resamples=0,
        num_units=num_items,
    )


def paired_means(
    first: Sequence[float],
    second: Sequence[float],
    *,
    units: Sequence[Hashable] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> HeadlineDifference:
    """Compares the means of two runs over the same items, in the same order."""
    change = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    sums, counts = _by_unit(change, units)
    resampled = _resample_means(sums, counts, seed=seed)
    interval = _to_interval(float(change.mean()), resampled, level=level, num_units=len(sums))
    return HeadlineDifference(p=_sign_flip_p(sums, seed=seed), **asdict(interval))


def paired_bootstrap(
    first: Sequence[Sequence[Entry]],
    second: Sequence[Sequence[Entry]],
    statistic: Statistic[Entry],
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> HeadlineDifference:
    """Compares any metric of two runs; every resample takes the same units of both."""
    assert len(first) == len(second)
    rng, num_resamples = np.random.default_rng(seed), _num_resamples(4 * sum(map(len, first)))
    resampled = np.empty(num_resamples)
    for number in range(num_resamples):
        chosen = rng.integers(len(first), size=len(first))
        resampled[number] = statistic([second[i] for i in chosen]) - statistic(
            [first[i] for i in chosen]
        )
    value = statistic(second) - statistic(first)
    found = list[float]()
    for swaps in chain.from_iterable(_exchanges(len(first), rng, limit=num_resamples)):
        pairs = [
            (b, a) if swap else (a, b) for a, b, swap in zip(first, second, swaps, strict=True)
        ]
        found.append(statistic([b for _, b in pairs]) - statistic([a for a, _ in pairs]))
    interval = _to_interval(value, resampled, level=level, num_units=len(first))
    p = _share_as_large(np.array(found), value, exact=2 ** len(first) <= num_resamples)
    return HeadlineDifference(p=p, **asdict(interval))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Compares two runs by the items that only one of them got right."""
    pairs = list(zip(first, second, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    p = 1.0 if total == 0 else min(1.0, 2 * tail / 2**total)  # integers: exact
    return McNemar(only_first=only_first, only_second=only_second, p=p)


def _to_interval(
    value: float, resampled: NDArray[np.float64], *, level: float, num_units: int
) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        value=value,
        low=float(low),
        high=float(high),
        level=level,
        num_resamples=len(resampled),
        num_units=num_units,
    )


def _sign_flip_p(sums: NDArray[np.float64], *, seed: int) -> float:
    """Returns the p-value of a difference that is a sum over units, each exchanged or not."""
    found, rng = sums[sums != 0], np.random.default_rng(seed)  # to exchange equals changes nothing
    blocks = _exchanges(len(found), rng, limit=MEAN_RESAMPLES)
    totals = np.concatenate([found.sum() - 2 * (block @ found) for block in blocks])
    exact = 2 ** len(found) <= MEAN_RESAMPLES
    return _share_as_large(totals, float(found.sum()), exact=exact)


def _exchanges(
    num_units: int, rng: np.random.Generator, *, limit: int
) -> Iterator[NDArray[np.bool_]]:
    """Yields which units to exchange, in blocks [times, units]: every way if few, or a sample."""
    if 2**num_units <= limit:
        yield (np.arange(2**num_units)[:, None] >> np.arange(num_units)) % 2 == 1
        return
    step = max(1, CELLS_AT_ONCE // num_units)
    for begin in range(0, limit, step):
        size = (min(step, limit - begin), num_units)
        yield rng.integers(2, size=size, dtype=np.int8).astype(bool)


def _share_as_large(exchanged: NDArray[np.float64], found: float, *, exact: bool) -> float:
    """Returns the share of differences at least as large as that found, which is one of them."""
    count = int((np.abs(exchanged) >= abs(found) - SAME * max(1.0, abs(found))).sum())
    return count / len(exchanged) if exact else (1 + count) / (1 + len(exchanged))


def _by_unit(
    values: NDArray[np.float64], units: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the sum and the count of each unit's values."""
    if units is None:
        return values, np.ones_like(values)
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    index = np.array([numbers[unit] for unit in units])
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _resample_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], *, seed: int
) -> NDArray[np.float64]:
    """Returns the means of MEAN_RESAMPLES resamples of units."""
    rng, size = np.random.default_rng(seed), len(sums)
    step = max(1, CELLS_AT_ONCE // size)
    resampled = []
    for begin in range(0, MEAN_RESAMPLES, step):
        chosen = rng.integers(size, size=(min(step, MEAN_RESAMPLES - begin), size))
        resampled.append(sums[chosen].sum(1) / counts[chosen].sum(1))
    return np.concatenate(resampled)


def _num_resamples(num_items: int) -> int:
    return int(np.clip(MAX_ITEMS_RESAMPLED // max(1, num_items), MIN_RESAMPLES, MAX_RESAMPLES))
