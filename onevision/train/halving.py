"""A batch that does not fit into memory -> two that learn the same, one after the other.

Padded rows are divided between rows, a packed row between its samples: where a sample ends, nothing
is seen across.
"""

from dataclasses import replace
from itertools import accumulate

from onevision.batch import Blocks, TrainingBatch


def middle(batch: TrainingBatch) -> int | None:
    """Return how many samples come before about half of the tokens; None where there is one."""
    ends = list(accumulate(_lengths(batch)))
    if len(ends) < 2:
        return None
    return min(range(1, len(ends)), key=lambda count: abs(2 * ends[count - 1] - ends[-1]))


def divided(batch: TrainingBatch, count: int) -> tuple[TrainingBatch, TrainingBatch]:
    """Return the first `count` samples of a batch, and the others."""
    at = sum(_lengths(batch)[:count])  # a flat position
    scored = int((batch.sources < at).sum())
    visual = int(batch.visual_mask.flatten()[:at].sum())
    tokens = accumulate(layout.num_tokens for layout in batch.layouts)
    media = sum(end <= visual for end in tokens)
    crops = sum(layout.num_crops for layout in batch.layouts[:media])
    one, other = _rows(batch, at=at, count=count)
    return (
        replace(
            one,
            sources=batch.sources[:scored],
            targets=batch.targets[:scored],
            pixel_values=batch.pixel_values[:crops],
            layouts=batch.layouts[:media],
        ),
        replace(
            other,
            sources=batch.sources[scored:] - at,
            targets=batch.targets[scored:],
            pixel_values=batch.pixel_values[crops:],
            layouts=batch.layouts[media:],
        ),
    )


def _lengths(batch: TrainingBatch) -> list[int]:
    """Return the tokens of each sample, padding included: of each row, or of a row's blocks."""
    if isinstance(batch.mask, Blocks):
        return list(batch.mask.lengths)
    return [batch.input_ids.shape[1]] * len(batch.input_ids)


def _rows(batch: TrainingBatch, *, at: int, count: int) -> tuple[TrainingBatch, TrainingBatch]:
    """Divide what has a place for every token."""
    columns = ("input_ids", "visual_mask", "position_ids")
    if isinstance(batch.mask, Blocks):
        lengths, masks = batch.mask.lengths, batch.mask.masks
        pieces = [{name: getattr(batch, name)[:, :at] for name in columns}]
        pieces += [{name: getattr(batch, name)[:, at:] for name in columns}]
        pieces[0]["mask"] = Blocks(lengths=lengths[:count], masks=masks[:count])
        pieces[1]["mask"] = Blocks(lengths=lengths[count:], masks=masks[count:])
    else:
        columns = (*columns, "mask")
        pieces = [{name: getattr(batch, name)[:count] for name in columns}]
        pieces += [{name: getattr(batch, name)[count:] for name in columns}]
    return replace(batch, **pieces[0]), replace(batch, **pieces[1])
