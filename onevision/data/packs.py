"""The planned lengths of an epoch, in order -> packs: which samples share a sequence.

Packs are formed for all ranks at once, from the lengths alone. A sample that later fails to decode
leaves a hole in its pack; nothing moves. Training deals packs out evenly to steps and processes.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onevision.errors import DataError

# Samples packed together: enough to fill every gap, few enough to keep the order shuffled.
WINDOW_SAMPLES = 8192
# A pack less full than this is packed again with the next window.
FULL = 0.98


@dataclass(frozen=True, kw_only=True)
class Packs:
    """Samples by pack: pack k holds positions[starts[k] : starts[k + 1]] of the order."""

    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    max_tokens: int  # of each pack

    def __len__(self) -> int:
        return len(self.num_tokens)

    def __getitem__(self, pack: int) -> NDArray[np.int64]:
        return self.positions[self.starts[pack] : self.starts[pack + 1]]

    def divided(self, places: Sequence[int], sizes: NDArray[np.int64]) -> "Packs":
        """Returns the same samples, of `sizes` tokens, with packs that also begin at `places`."""
        starts = np.union1d(self.starts, np.asarray(places, dtype=np.int64))
        sums = np.concatenate([[0], sizes[self.positions].cumsum()])
        return replace(self, starts=starts, num_tokens=np.diff(sums[starts]))

    @property
    def fill(self) -> float:
        """Share of the packs' capacity that holds tokens."""
        return float(self.num_tokens.mean() / self.max_tokens) if len(self) else 1.0


def pack_steps(
    lengths: Sequence[int] | NDArray[np.int64],
    *,
    max_tokens: int,
    samples_per_step: int,
    samples_before: int = 0,
) -> tuple[Packs, NDArray[np.int64]]:
    """Packs the samples of each step apart, and returns the step of each pack too.

    Step s holds the samples [s * n, (s + 1) * n), n = `samples_per_step`, counted through all
    epochs: `samples_before` are those of the epochs before. Raises DataError as `pack` does.
    """
    sizes = _check_sizes(lengths, max_tokens)
    step_of = (samples_before + np.arange(len(sizes))) // samples_per_step
    bins: list[list[int]] = []
    for members in np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(step_of)) + 1):
        bins += map(sorted, _best_fit_decreasing(members, sizes, max_tokens))
    steps = np.array([step_of[one[0]] for one in bins], dtype=np.int64)
    return _to_packs(bins, sizes, max_tokens), steps


def pack(lengths: Sequence[int] | NDArray[np.int64], *, max_tokens: int, seed: int = 0) -> Packs:
    """Packs samples of `lengths` tokens, in order, into sequences of `max_tokens`.

    Best-fit decreasing within windows of the order; loosely filled packs of a window are packed
    again with the next. Raises DataError for a sample longer than a pack.
    """
    sizes = _check_sizes(lengths, max_tokens)
    bins: list[list[int]] = []
    left = np.zeros(0, dtype=np.int64)
    for begin in range(0, len(sizes), WINDOW_SAMPLES):
        window = np.concatenate([left, np.arange(begin, min(begin + WINDOW_SAMPLES, len(sizes)))])
        made = _best_fit_decreasing(window, sizes, max_tokens)
        last = begin + WINDOW_SAMPLES >= len(sizes)
        # A sample waits for at most one window.
        full = [last or min(b) < begin or sizes[b].sum() >= FULL * max_tokens for b in made]
        kept = [b for b, is_full in zip(made, full, strict=True) if is_full]
        loose = [p for b, is_full in zip(made, full, strict=True) if not is_full for p in b]
        left = np.array(sorted(loose), dtype=np.int64)
        rng = np.random.default_rng([seed, begin])
        bins += [sorted(kept[i]) for i in rng.permutation(len(kept))]
    return _to_packs(bins, sizes, max_tokens)


def _check_sizes(lengths: Sequence[int] | NDArray[np.int64], max_tokens: int) -> NDArray[np.int64]:
    """Returns the lengths as an array. Raises DataError for a sample longer than a pack."""
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and sizes.max() > max_tokens:
        worst = int(sizes.argmax())
        raise DataError(
            f"sample {worst} of the order has {sizes[worst]:,} tokens, a pack holds "
            f"{max_tokens:,}; let planning reduce or refuse it first"
        )
    return sizes


def _to_packs(bins: list[list[int]], sizes: NDArray[np.int64], max_tokens: int) -> Packs:
    counts = [len(b) for b in bins]
    return Packs(
        positions=np.array([p for b in bins for p in b], dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        num_tokens=np.array([sizes[b].sum() for b in bins], dtype=np.int64),
        max_tokens=max_tokens,
    )


def _best_fit_decreasing(
    window: NDArray[np.int64], sizes: NDArray[np.int64], max_tokens: int
) -> list[list[int]]:
    """Puts every sample, longest first, into the bin where it leaves the least room."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, bin), sorted
    for position in window[np.argsort(-sizes[window], kind="stable")].tolist():
        size = int(sizes[position])
        place = bisect_left(room, (size, -1))
        if place == len(room):
            free, number = max_tokens, len(bins)
            bins.append([])
        else:
            free, number = room.pop(place)
        bins[number].append(position)
        if free > size:
            insort(room, (free - size, number))
    return bins
