"""Rows and their origin -> the micro-batches of a step; the protocol of what deals them out.

    feed.steps(first=120)  ->  step 120: [MicroBatch, MicroBatch, ...]   this process's share
                               step 121: ...

The contents of a step depend only on the seed and the step's number. A run can therefore resume
anywhere, on any number of processes, and a feed has no state to save.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol, Self

import torch
from torch import Tensor

from onevision.batch import Blocks, TrainingBatch
from onevision.config import InputConfig
from onevision.data.packing import PackedRow, collate, join
from onevision.plural import counted


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one process learns from in one pass, and where each part of it came from."""

    batch: TrainingBatch
    # [L] int64: the sample, an index into `samples`, that each term of the loss belongs to.
    owners: Tensor
    samples: tuple[str, ...]  # "single_image.json, row 7"
    sources: tuple[int, ...]  # of each sample, an index into the feed's sources

    def to(self, device: torch.device | str) -> Self:
        """Returns the micro-batch with the model's inputs on `device`; the rest stays put."""
        return replace(self, batch=self.batch.to(device))

    def halves(self) -> tuple[Self, Self] | None:
        """Divides it near the middle of its tokens; None if it is a single sample."""
        count = middle(self.batch)
        if count is None:
            return None
        first, second = split_batch(self.batch, count)
        return self._part(first, slice(count)), self._part(second, slice(count, None))

    def _part(self, batch: TrainingBatch, part: slice) -> Self:
        """Returns the samples in `part`, of which `batch` holds the tensors."""
        begin, end, _ = part.indices(len(self.samples))
        inside = (self.owners >= begin) & (self.owners < end)
        return replace(
            self,
            batch=batch,
            owners=self.owners[inside] - begin,
            samples=self.samples[part],
            sources=self.sources[part],
        )

    def __str__(self) -> str:
        """Describes its size."""
        batch = self.batch
        samples = (
            self.samples[0] if len(self.samples) == 1 else counted(len(self.samples), "sample")
        )
        return (
            f"{samples}: {batch.input_ids.numel():,} tokens, {len(batch.targets):,} of them "
            f"labelled, {counted(len(batch.pixel_values), 'crop')}"
        )


class Feed(Protocol):
    """The samples of a stage, dealt out to the processes that share a step."""

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole stage."""
        ...

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data sets or families that samples come from."""
        ...

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """A digest of each source's samples; empty if they are procedural."""
        ...

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Yields this process's share of every step from `first` (0-based) to the last."""
        ...


def pad_rows(
    rows: Sequence[PackedRow],
    config: InputConfig,
    *,
    samples: Sequence[str],
    sources: Sequence[int],
) -> MicroBatch:
    """Collates rows, padded; `samples` and `sources` list the samples in them, row by row."""
    batch = collate(rows, config)
    length = batch.input_ids.shape[1]
    owners = torch.zeros(len(rows), length, dtype=torch.int64)
    before = 0
    for number, row in enumerate(rows):
        owners[number, : len(row)] = row.sample + before
        before += int(row.sample[-1]) + 1
    assert before == len(samples) == len(sources)
    return MicroBatch(
        batch=batch,
        owners=owners.flatten()[batch.sources],
        samples=tuple(samples),
        sources=tuple(sources),
    )


def pack_rows(
    rows: Sequence[PackedRow],
    config: InputConfig,
    *,
    samples: Sequence[str],
    sources: Sequence[int],
) -> MicroBatch:
    """Collates rows as one sequence without padding; the rest as in `pad_rows`."""
    return pad_rows([join(rows)], config, samples=samples, sources=sources)


def empty_micro_batch(*, crop_size: int) -> MicroBatch:
    """Returns one token without a label, for a process that has no work left in a step."""
    nothing = torch.zeros(0, dtype=torch.int64)
    batch = TrainingBatch(
        input_ids=torch.zeros(1, 1, dtype=torch.int64),
        visual_mask=torch.zeros(1, 1, dtype=torch.bool),
        position_ids=torch.zeros(1, 1, dtype=torch.int64),
        mask=torch.ones(1, 1, 1, 1, dtype=torch.bool),
        sources=nothing,
        targets=nothing,
        pixel_values=torch.zeros(0, 3, crop_size, crop_size),
        layouts=(),
    )
    return MicroBatch(batch=batch, owners=nothing, samples=(), sources=())


def middle(batch: TrainingBatch) -> int | None:
    """Returns how many samples come before about half of the tokens; None for one sample."""
    ends = list(accumulate(sample_lengths(batch)))
    if len(ends) < 2:
        return None
    return min(range(1, len(ends)), key=lambda count: abs(2 * ends[count - 1] - ends[-1]))


def sample_lengths(batch: TrainingBatch) -> list[int]:
    """Returns the tokens of each sample, padding included: of each row, or of a row's blocks."""
    if isinstance(batch.mask, Blocks):
        return list(batch.mask.lengths)
    return [batch.input_ids.shape[1]] * len(batch.input_ids)


def split_batch(batch: TrainingBatch, count: int) -> tuple[TrainingBatch, TrainingBatch]:
    """Returns the first `count` samples of a batch, and the others.

    Padded rows are divided between rows, a packed row between its samples: no sample sees another,
    so both parts together teach what the whole does.
    """
    at = sum(sample_lengths(batch)[:count])  # a flat position
    scored = int((batch.sources < at).sum())
    visual = int(batch.visual_mask.flatten()[:at].sum())
    tokens = accumulate(layout.num_tokens for layout in batch.layouts)
    media = sum(end <= visual for end in tokens)
    crops = sum(layout.num_crops for layout in batch.layouts[:media])
    first, second = _split_positions(batch, at=at, count=count)
    return (
        replace(
            first,
            sources=batch.sources[:scored],
            targets=batch.targets[:scored],
            pixel_values=batch.pixel_values[:crops],
            layouts=batch.layouts[:media],
        ),
        replace(
            second,
            sources=batch.sources[scored:] - at,
            targets=batch.targets[scored:],
            pixel_values=batch.pixel_values[crops:],
            layouts=batch.layouts[media:],
        ),
    )


def _split_positions(
    batch: TrainingBatch, *, at: int, count: int
) -> tuple[TrainingBatch, TrainingBatch]:
    """Divides the tensors that have an entry for every position."""
    mask = batch.mask
    if isinstance(mask, Blocks):  # one row: cut between its positions
        cuts = ((..., slice(at)), (..., slice(at, None)))
        masks: list[Tensor | Blocks] = [
            Blocks(lengths=mask.lengths[part], masks=mask.masks[part])
            for part in (slice(count), slice(count, None))
        ]
    else:  # cut between rows
        cuts = (slice(count), slice(count, None))
        masks = [mask[cut] for cut in cuts]
    first, second = (
        replace(
            batch,
            input_ids=batch.input_ids[cut],
            visual_mask=batch.visual_mask[cut],
            position_ids=batch.position_ids[cut],
            mask=part,
        )
        for cut, part in zip(cuts, masks, strict=True)
    )
    return first, second
