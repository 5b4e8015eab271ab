"""The lengths of all epochs -> packs, and which of them a step holds.

Packs are dealt out evenly: step s of S holds packs [s P / S, (s + 1) P / S) of P. If the packs are
so large that there are fewer than steps (small batches of short samples), this would leave steps
with nothing; the samples of each step are then packed apart, exactly `global_batch` of them.

A step's packs are then divided until each of several processes has as many, so that none waits for
the others. Which samples a step holds does not depend on the number of processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from onevision.data.packs import Packs, pack, pack_steps


@dataclass(frozen=True, kw_only=True)
class Deal:
    """The packs of all epochs, numbered through, and where each step begins among them."""

    epochs: tuple[Packs, ...]
    starts: NDArray[np.int64]  # [S + 1]

    def packs_of(self, step: int) -> range:
        """Returns the numbers of a step's packs."""
        return range(int(self.starts[step]), int(self.starts[step + 1]))

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the epoch of a pack, and its number within the epoch."""
        for epoch, packs in enumerate(self.epochs):
            if number < len(packs):
                return epoch, number
            number -= len(packs)
        raise AssertionError("a pack beyond the last epoch")


def deal_packs(
    lengths: Sequence[NDArray[np.int64]],
    *,
    num_steps: int,
    global_batch: int,
    max_tokens: int,
    seed: int,
    num_processes: int = 1,
) -> Deal:
    """Packs the samples of every epoch and deals them out; every step holds one at least.

    `lengths` are those of each epoch's samples, in order. Raises DataError for a sample longer than
    a pack.
    """
    deal = _deal(lengths, num_steps, global_batch, max_tokens, seed)
    return deal if num_processes == 1 else even_out(deal, lengths, num_processes)


def even_out(deal: Deal, lengths: Sequence[NDArray[np.int64]], num_processes: int) -> Deal:
    """Divides the largest packs of each step until their number is a multiple of the processes'.

    A step of too few samples keeps fewer packs.
    """
    cuts: list[list[int]] = [[] for _ in deal.epochs]
    added = np.zeros(len(deal.starts), dtype=np.int64)
    for step in range(len(deal.starts) - 1):
        packs = deal.packs_of(step)
        if len(packs) % num_processes == 0:
            continue
        heap: list[Piece] = []
        for epoch, number in map(deal.locate, packs):
            begin, end = deal.epochs[epoch].starts[number : number + 2].tolist()
            tokens = int(deal.epochs[epoch].num_tokens[number])
            heappush(heap, (-tokens, epoch, begin, end))
        found = _divide(heap, deal, lengths, -len(packs) % num_processes)
        for epoch, place in found:
            cuts[epoch].append(place)
        added[step + 1] = len(found)
    epochs = tuple(
        one.divided(at, sizes) for one, at, sizes in zip(deal.epochs, cuts, lengths, strict=True)
    )
    return Deal(epochs=epochs, starts=deal.starts + added.cumsum())


# A pack or a part of one: its tokens, negative, so that the largest is first; its epoch; where it
# begins and ends among the epoch's packed samples.
Piece = tuple[int, int, int, int]


def _divide(
    heap: list[Piece], deal: Deal, lengths: Sequence[NDArray[np.int64]], missing: int
) -> list[tuple[int, int]]:
    """Halves the largest piece again and again; returns the epoch and the place of each cut."""
    cuts: list[tuple[int, int]] = []
    while heap and len(cuts) < missing:
        tokens, epoch, begin, end = heappop(heap)
        if end - begin < 2:  # a single sample
            continue
        sums = lengths[epoch][deal.epochs[epoch].positions[begin : end - 1]].cumsum()
        nearest = int(abs(2 * sums + tokens).argmin())
        cut, before = begin + nearest + 1, int(sums[nearest])
        cuts.append((epoch, cut))
        heappush(heap, (-before, epoch, begin, cut))
        heappush(heap, (before + tokens, epoch, cut, end))
    return cuts


def _deal(
    lengths: Sequence[NDArray[np.int64]],
    num_steps: int,
    global_batch: int,
    max_tokens: int,
    seed: int,
) -> Deal:
    evenly = tuple(pack(one, max_tokens=max_tokens, seed=seed) for one in lengths)
    total = sum(map(len, evenly))
    if total >= num_steps:
        return Deal(epochs=evenly, starts=np.arange(num_steps + 1) * total // num_steps)
    epochs: list[Packs] = []
    steps: list[NDArray[np.int64]] = []
    before = 0
    for one in lengths:
        packs, step_of = pack_steps(
            one, max_tokens=max_tokens, samples_per_step=global_batch, samples_before=before
        )
        epochs.append(packs)
        steps.append(step_of)
        before += len(one)
    starts = np.searchsorted(np.concatenate(steps), np.arange(num_steps + 1))
    return Deal(epochs=tuple(epochs), starts=starts)
