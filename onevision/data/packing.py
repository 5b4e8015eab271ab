"""Examples -> packed rows -> training batches; questions about the same media share its prefix.

A row is one shared prefix (system message, media) followed by branches (a question and its answer
each). Every branch continues the prefix as if it stood alone: it sees the prefix and itself, its
positions continue from the prefix, and its first token is predicted from the prefix's last.

    ids        P P P P  a a a  b b b b        P: prefix, a and b: branches
    position   0 1 2 3  4 5 6  4 5 6 7
    previous   - 0 1 2  3 4 5  3 7 8 9        the position that predicts this token
    b sees     x x x x  . . .  x x x x

`join` puts the rows of several samples into one: positions start again, and no sample sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onevision.anyres import Layout
from onevision.batch import Blocks, TrainingBatch
from onevision.config import InputConfig
from onevision.inputs.chat import IGNORE
from onevision.inputs.image import normalise
from onevision.inputs.processor import Example

PREFIX, PADDING = 0, -1


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """One sequence of a training batch: one sample, or several laid end to end."""

    input_ids: Tensor  # [S]
    visual_mask: Tensor  # [S] bool
    labels: Tensor  # [S]
    position_ids: Tensor  # [S]
    previous: Tensor  # [S], the position that predicts this one; -1 for the first
    branch: Tensor  # [S], PREFIX or 1, 2, ...
    sample: Tensor  # [S], which of the row's samples a position belongs to: 0, 1, ...
    crops: Tensor  # [N, 3, H, W] uint8
    layouts: tuple[Layout, ...]

    def __len__(self) -> int:
        return len(self.input_ids)


def share_prefix(examples: Sequence[Example]) -> PackedRow:
    """Puts examples about the same media into one row.

    The shared prefix ends with the last visual token; text-only examples share nothing.
    """
    first = examples[0]
    visual = np.flatnonzero(first.visual_mask.numpy())
    end = int(visual[-1]) + 1 if len(visual) else 0  # of the prefix
    assert all(torch.equal(e.input_ids[:end], first.input_ids[:end]) for e in examples[1:])
    tails = np.array([len(e.input_ids) - end for e in examples])
    starts = end + np.cumsum(tails) - tails  # of the branches, in the row
    total = end + int(tails.sum())
    previous = np.arange(-1, total - 1)
    previous[starts] = end - 1
    positions = [np.arange(end), *(np.arange(end, end + tail) for tail in tails)]
    branch = np.repeat(np.arange(len(examples) + 1), [end, *tails])
    return PackedRow(
        input_ids=torch.cat([first.input_ids[:end], *(e.input_ids[end:] for e in examples)]),
        visual_mask=torch.cat([first.visual_mask[:end], *(e.visual_mask[end:] for e in examples)]),
        labels=torch.cat([first.labels[:end], *(e.labels[end:] for e in examples)]),
        position_ids=torch.from_numpy(np.concatenate(positions)),
        previous=torch.from_numpy(previous),
        branch=torch.from_numpy(branch),
        sample=torch.zeros(total, dtype=torch.int64),
        crops=first.crops,
        layouts=first.layouts,
    )


def join(rows: Sequence[PackedRow]) -> PackedRow:
    """Lays the rows of several samples end to end, each as if it stood alone."""
    lengths = [len(row) for row in rows]
    offsets = [sum(lengths[:number]) for number in range(len(rows))]
    return PackedRow(
        input_ids=torch.cat([r.input_ids for r in rows]),
        visual_mask=torch.cat([r.visual_mask for r in rows]),
        labels=torch.cat([r.labels for r in rows]),
        position_ids=torch.cat([r.position_ids for r in rows]),
        previous=torch.cat(
            [
                torch.where(r.previous < 0, -1, r.previous + offset)
                for r, offset in zip(rows, offsets, strict=True)
            ]
        ),
        branch=torch.cat([r.branch for r in rows]),
        sample=torch.cat([torch.full((length,), n) for n, length in enumerate(lengths)]),
        crops=torch.cat([r.crops for r in rows]),
        layouts=tuple(layout for r in rows for layout in r.layouts),
    )


def collate(rows: Sequence[PackedRow], config: InputConfig, *, pad_id: int = 0) -> TrainingBatch:
    """Stacks rows into a batch, padded to the longest, and normalises their crops.

    Samples are kept apart by blocks if there is one row, and by a mask if there are several.
    """
    labels = _pad([r.labels for r in rows], IGNORE)
    previous = _pad([r.previous for r in rows], -1)
    scored = (labels != IGNORE) & (previous >= 0)  # [B, S]
    row_start = torch.arange(len(rows))[:, None] * labels.shape[1]
    crops = torch.cat([r.crops for r in rows])
    return TrainingBatch(
        input_ids=_pad([r.input_ids for r in rows], pad_id),
        visual_mask=_pad([r.visual_mask for r in rows], 0),
        position_ids=_pad([r.position_ids for r in rows], 0),
        mask=_blocks(rows[0]) if len(rows) == 1 else _mask(rows),
        sources=(previous + row_start)[scored],
        targets=labels[scored],
        pixel_values=normalise(crops, mean=config.image_mean, std=config.image_std),
        layouts=tuple(layout for r in rows for layout in r.layouts),
    )


def _mask(rows: Sequence[PackedRow]) -> Tensor:
    """Returns [B, 1, S, S]: whether position i sees position j."""
    branch = _pad([r.branch for r in rows], PADDING)
    sample = _pad([r.sample for r in rows], PADDING)
    same_sample = sample[:, None, :] == sample[:, :, None]
    return (_sees(branch) & same_sample)[:, None]


def _blocks(row: PackedRow) -> Blocks:
    """Splits a row into its samples; one with a single branch is simply causal."""
    lengths = tuple(torch.bincount(row.sample).tolist())
    branches = row.branch.split(lengths)
    masks = tuple(None if int(b.max()) <= 1 else _sees(b[None])[0] for b in branches)
    return Blocks(lengths=lengths, masks=masks)


def _sees(branch: Tensor) -> Tensor:
    """Returns [B, S, S]: of the positions before it, each sees the prefix and its own branch."""
    length = branch.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    own = branch[:, None, :] == branch[:, :, None]
    return causal & (own | (branch[:, None, :] == PREFIX))


def _pad(columns: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=value)
