"""(mixture, seed, epoch) -> which sample comes when, as a pure function.

Every data set contributes its rows for the epoch in an order of its own, and a shuffle of their
labels mixes the data sets. No state is kept and no global random generator is used, so position p
of epoch e is the same on every rank and after every restart.
"""

import numpy as np
from numpy.typing import NDArray

from onevision.data.mixture import Mixture, OpenDataset

# Blocks of a source (Parquet row groups) whose rows are mixed with one another.
BLOCKS_MIXED = 4
# Shards whose blocks are mixed with one another. (A tar shard is a block.)
SHARDS_MIXED = 4


class Order:
    """The samples of one epoch: at position p stands row `rows[p]` of data set `datasets[p]`."""

    def __init__(self, mixture: Mixture, *, seed: int, epoch: int) -> None:
        counts = count_rows_per_epoch(mixture)
        labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        _make_rng(seed, epoch, "labels").shuffle(labels)
        self.datasets: NDArray[np.int32] = labels
        self.rows = np.empty(len(labels), dtype=np.int64)
        for number, (one, count) in enumerate(zip(mixture.datasets, counts, strict=True)):
            self.rows[labels == number] = choose_epoch_rows(one, count, seed=seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.rows)


def count_rows_per_epoch(mixture: Mixture) -> list[int]:
    """Returns how many rows of each data set an epoch shows.

    `rows` sets it outright. Data sets with a `share` divide the rows they hold together by it.
    """
    shared = [one for one in mixture.datasets if one.entry.share is not None]
    total = sum(len(one.rows) for one in shared)
    weight = sum(one.entry.share or 0.0 for one in shared)
    counts = []
    for one in mixture.datasets:
        if one.entry.rows is not None:
            counts.append(one.entry.rows if len(one.rows) else 0)
        elif one.entry.share is not None:
            counts.append(round(total * one.entry.share / weight))
        else:
            counts.append(len(one.rows))
    return counts


def choose_epoch_rows(
    dataset: OpenDataset, count: int, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Returns the `count` rows of a data set that epoch `epoch` shows, in order.

    The epochs walk through the data set in rounds, each a new shuffle, so that no row is seen twice
    before every row is seen once.
    """
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    size = len(dataset.rows)
    first, last = epoch * count, (epoch + 1) * count
    rounds = range(first // size, (last - 1) // size + 1)
    rows = np.concatenate([_shuffle(dataset, seed=seed, number=number) for number in rounds])
    begin = first - rounds[0] * size
    return rows[begin : begin + count]


def _shuffle(dataset: OpenDataset, *, seed: int, number: int) -> NDArray[np.int64]:
    """Returns the rows in random order; rows of one block stay close to each other.

    So do blocks of one shard: what is read at a time lies in few shards.
    """
    rng = _make_rng(seed, number, f"rows/{dataset.entry.name}")
    starts = np.asarray(dataset.source.block_starts)
    if len(starts) <= 1:
        return rng.permutation(dataset.rows)
    block = np.searchsorted(starts, dataset.rows, side="right") - 1
    place = rng.permutation(len(starts))  # of each block in their shuffled order
    shards = np.asarray(dataset.source.shard_starts)
    if 1 < len(shards) < len(starts):
        shard = np.searchsorted(shards, starts, side="right") - 1
        window = rng.permutation(len(shards))[shard] // SHARDS_MIXED  # of each block
        place[np.lexsort((place, window))] = np.arange(len(starts))
    rank = place[block]
    return dataset.rows[np.lexsort((rng.random(len(rank)), rank // BLOCKS_MIXED))]


def _make_rng(seed: int, number: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, number, *purpose.encode()])
