"""Which sample comes when: a pure function of (mixture, seed, epoch).

Every entry contributes its rows for the epoch in an order of its own, and the entries are mixed by
a shuffle of their labels. No state is kept and no global random stream is touched, so position p of
epoch e is the same on every rank, after every restart.
"""

from copy import copy

import numpy as np
from numpy.typing import NDArray

from onevision.data.mixture import Mixture, Part

# Stretches of a source (Parquet row groups) whose rows are mixed with one another.
BLOCKS_MIXED = 4
# Groups of like length are found among the samples of this many.
STRETCH_GROUPS = 50


class Order:
    """The samples of one epoch: `parts[p]`, `rows[p]` say which sample stands at position p."""

    def __init__(self, mixture: Mixture, *, seed: int, epoch: int) -> None:
        self.seed, self.epoch = seed, epoch
        counts = count_rows_per_epoch(mixture)
        labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        _rng(seed, epoch, "labels").shuffle(labels)
        self.parts: NDArray[np.int32] = labels
        self.rows = np.empty(len(labels), dtype=np.int64)
        for number, (part, count) in enumerate(zip(mixture.parts, counts, strict=True)):
            self.rows[labels == number] = choose_epoch_rows(part, count, seed=seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def grouped(
        self, lengths: NDArray[np.int64], modalities: NDArray[np.int8], *, group: int
    ) -> "Order":
        """Return an order in which `group` neighbours share a modality and nearly a length.

        For batches that are padded instead of packed. `lengths` (visual tokens counted) and
        `modalities` stand by position. As the reference's sampler does, but from a stream of its
        own: shuffle, cut into stretches of 50 groups, sort each by length, shuffle the groups.
        """
        rng = _rng(self.seed, self.epoch, "groups")
        groups: list[NDArray[np.int64]] = []
        rest: list[NDArray[np.int64]] = []
        for kind in np.unique(modalities):
            positions = rng.permutation(np.flatnonzero(modalities == kind))
            whole = len(positions) // group * group
            rest.append(positions[whole:])
            for begin in range(0, whole, STRETCH_GROUPS * group):
                stretch = positions[begin : min(begin + STRETCH_GROUPS * group, whole)]
                stretch = stretch[np.argsort(lengths[stretch], kind="stable")]
                groups += np.split(stretch, len(stretch) // group)
        shuffled = [groups[i] for i in rng.permutation(len(groups))]
        positions = np.concatenate([*shuffled, *rest]).astype(np.int64)
        order = copy(self)
        order.parts, order.rows = self.parts[positions], self.rows[positions]
        return order


def count_rows_per_epoch(mixture: Mixture) -> list[int]:
    """Return how many rows of each part an epoch shows.

    `rows` says it outright. Parts with a `share` divide by it the rows that they hold together.
    """
    shared = [part for part in mixture.parts if part.dataset.share is not None]
    total = sum(len(part.rows) for part in shared)
    weight = sum(part.dataset.share or 0.0 for part in shared)
    counts = []
    for part in mixture.parts:
        if part.dataset.rows is not None:
            counts.append(part.dataset.rows if len(part.rows) else 0)
        elif part.dataset.share is not None:
            counts.append(round(total * part.dataset.share / weight))
        else:
            counts.append(len(part.rows))
    return counts


def choose_epoch_rows(part: Part, count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the `count` rows of a part that epoch `epoch` shows, in order.

    Over the epochs the part is walked round after round, each round a new shuffle, so that no row
    is seen twice before all are seen once.
    """
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    size = len(part.rows)
    first, last = epoch * count, (epoch + 1) * count
    rounds = range(first // size, (last - 1) // size + 1)
    walked = np.concatenate([_shuffled(part, seed=seed, number=r) for r in rounds])
    begin = first - rounds[0] * size
    return walked[begin : begin + count]


def _shuffled(part: Part, *, seed: int, number: int) -> NDArray[np.int64]:
    """Shuffle a part's rows; rows of one block stay near each other."""
    rng = _rng(seed, number, f"rows/{part.dataset.name}")
    starts = np.asarray(part.source.block_starts)
    if len(starts) <= 1:
        return rng.permutation(part.rows)
    block = np.searchsorted(starts, part.rows, side="right") - 1
    rank = rng.permutation(len(starts))[block]  # a place in the shuffled order of blocks
    return part.rows[np.lexsort((rng.random(len(rank)), rank // BLOCKS_MIXED))]


def _rng(seed: int, number: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, number, *purpose.encode()])
