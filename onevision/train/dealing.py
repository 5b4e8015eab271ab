"""The lengths of all epochs -> packs, and which of them a step holds.

Packs are dealt out evenly: step s of S holds packs [s P / S, (s + 1) P / S) of P. If the packs are
so large that there are fewer than steps (small batches of short samples), this would leave steps
with nothing; the samples of each step are then packed apart, exactly `global_batch` of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
) -> Deal:
    """Packs the samples of every epoch and deals them out; every step holds one at least.

    Raises DataError for a sample longer than a pack.
    """
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
