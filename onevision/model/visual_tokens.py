"""Visual tokens: projected patches [N, P, D] + layouts -> what the language model reads [V, D].

Merging follows the projector, in language space and in the model's dtype, as the released weights
were trained; only `pool_first` precedes it. Every number comes from the layout.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.anyres import CropLayout, Layout, VideoLayout
from onevision.native import NativeLayout
from onevision.pruning import VisualTokens, choose_tokens

POOLS: Mapping[str, Callable[[Tensor, int], Tensor]] = MappingProxyType(
    {"average": F.avg_pool2d, "max": F.max_pool2d}
)


def arrange(
    patches: Tensor,
    layouts: Sequence[Layout],
    newline: Tensor | None,
    faster: Tensor | None = None,
) -> VisualTokens:
    """Merges the `patches` [N, P, D] of all images and videos, in prompt order.

    `newline` is the learned end-of-row vector [D], `faster` that after each frame of SlowFast; None
    for a model without one.
    """
    if not layouts:
        return VisualTokens(tokens=patches.flatten(0, 1), places=torch.arange(0))  # [0, D]
    pieces = patches.split([layout.num_crops for layout in layouts])
    media = [_merge(p, la, newline, faster) for p, la in zip(pieces, layouts, strict=True)]
    return VisualTokens(
        tokens=torch.cat([medium.tokens for medium in media]),
        places=torch.cat([medium.places for medium in media]),
    )


def crop_batches(owners: Sequence[Layout], size: int) -> Iterator[slice]:
    """Yields parts of up to `size` crops, or of one picture that is not to be divided.

    `owners` hold the layout of each crop.
    """
    begin = end = 0
    while begin < len(owners):
        while end < len(owners) and end + owners[end].crops_together - begin <= size:
            end += owners[end].crops_together
        end = max(end, begin + owners[begin].crops_together)
        yield slice(begin, end)
        begin = end


def pool_first(features: Tensor, layouts: Sequence[Layout]) -> Tensor:
    """Pools the `features` [N, P, C] that their layouts pool before the projector.

    `layouts` holds one per crop. The number of patches stays: each takes the value of its 2 x 2
    square. Pooling these again after the projector, which treats patches alike, changes nothing.
    """
    if not any(isinstance(layout, VideoLayout) and layout.pool_first for layout in layouts):
        return features
    return torch.stack([_level(crop, la) for crop, la in zip(features, layouts, strict=True)])


def _level(crop: Tensor, layout: Layout) -> Tensor:
    if not (isinstance(layout, VideoLayout) and layout.pool_first):
        return crop
    frame = crop.unflatten(0, (layout.side, layout.side)).clone()  # [side, side, C]
    pooled = _pool(frame[None], POOLS[layout.pool])[0]
    whole = 2 * layout.pooled_side  # an odd side's last row and column are never pooled
    frame[:whole, :whole] = pooled.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
    return frame.flatten(0, 1)


def _merge(
    patches: Tensor, layout: Layout, newline: Tensor | None, faster: Tensor | None
) -> VisualTokens:
    if isinstance(layout, NativeLayout):
        tokens = patches.flatten(0, 1)  # merged by the projector, in their order
    elif isinstance(layout, VideoLayout):
        tokens = merge_video(patches, layout, newline, faster)
    else:
        tokens = merge_image(patches, layout, newline)
    places = choose_tokens(tokens, layout)
    if layout.num_dropped:
        tokens = tokens[places.to(tokens.device)]
    assert len(tokens) == layout.num_tokens, f"{len(tokens)} tokens made, planned {layout}"
    return VisualTokens(tokens=tokens, places=places)


def merge_image(patches: Tensor, layout: CropLayout, newline: Tensor | None) -> Tensor:
    """Merges the crops of one image, `patches` [num_crops, P, D] -> [V, D], none dropped."""
    base = patches[0]  # [P, D]
    if layout.cols == 0:
        return torch.cat([base, newline[None]]) if layout.newline and newline is not None else base
    if layout.merge == "flat":
        return patches.flatten(0, 1)
    side, width = layout.side, patches.shape[-1]
    mosaic = patches[1:].view(layout.rows, layout.cols, side, side, width)
    mosaic = mosaic.transpose(1, 2).reshape(layout.rows * side, layout.cols * side, width)
    mosaic = mosaic.narrow(0, layout.first_row, layout.kept_rows)
    mosaic = mosaic.narrow(1, layout.first_col, layout.kept_cols)  # [kept_rows, kept_cols, D]
    if layout.merge == "spatial_maxpool2x2":
        mosaic = _pool(mosaic[None], F.max_pool2d)[0]
    elif layout.shrunk:
        mosaic = _resize(mosaic[None], rows=layout.out_rows, cols=layout.out_cols)[0]
    if layout.newline and newline is not None:
        mosaic = _end_rows(mosaic, newline)
    return torch.cat([base, mosaic.flatten(0, 1)])


def merge_video(
    patches: Tensor, layout: VideoLayout, newline: Tensor | None, faster: Tensor | None = None
) -> Tensor:
    """Pools the frames of one video, `patches` [F, P, D] -> [V, D], none dropped."""
    frames = patches.unflatten(1, (layout.side, layout.side))  # [F, side, side, D]
    if layout.slow_every is not None:
        assert newline is not None and faster is not None, "SlowFast has both"
        return _merge_slow_fast(frames, layout, newline, faster)
    frames = _pool_frames(frames, layout, by=2)
    if layout.newline == "no_token" or newline is None:
        return frames.flatten(0, 2)
    if layout.newline == "grid":
        return _end_rows(frames, newline).flatten(0, 2)
    if layout.newline == "frame":
        return _end_rows(frames.flatten(1, 2), newline).flatten(0, 1)
    return torch.cat([frames.flatten(0, 2), newline[None]])


def _merge_slow_fast(
    frames: Tensor, layout: VideoLayout, newline: Tensor, faster: Tensor
) -> Tensor:
    """Merges frames [F, side, side, D] -> [V, D]: slow ones pooled by two, fast ones by four.

    Each row ends with `newline`, each frame with `faster`. FIDELITY: as meant by the reference,
    whose code stops with a NameError (LLaVA-Video, arXiv 2410.02713, section 3.2).
    """
    merged: dict[int, Tensor] = {}
    for by, side in ((2, layout.pooled_side), (4, layout.fast_side)):
        numbers = [number for number, one in enumerate(layout.sides) if one == side]
        rows = _end_rows(_pool_frames(frames[numbers], layout, by=by), newline)
        pieces = rows.flatten(1, 2)  # [_, side * (side + 1), D]
        merged |= {
            n: torch.cat([one, faster[None]]) for n, one in zip(numbers, pieces, strict=True)
        }
    return torch.cat([merged[number] for number in range(len(frames))])


def _pool_frames(x: Tensor, layout: VideoLayout, *, by: int) -> Tensor:
    """Pools frames `x` [F, side, side, D] `by` two or four, from their patches themselves."""
    if layout.pool != "bilinear":
        return _pool(x, POOLS[layout.pool], by=by)
    side = math.ceil(layout.side / by)
    return _resize(x, rows=side, cols=side)


def _end_rows(x: Tensor, newline: Tensor) -> Tensor:
    """Appends `newline` [D] to every row of `x` [..., cols, D] -> [..., cols + 1, D]."""
    return torch.cat([x, newline.expand(*x.shape[:-2], 1, -1)], dim=-2)


def _pool(x: Tensor, pool: Callable[[Tensor, int], Tensor], *, by: int = 2) -> Tensor:
    """Pools maps `x` [F, H, W, D] -> [F, H // by, W // by, D]."""
    return pool(x.permute(0, 3, 1, 2), by).permute(0, 2, 3, 1)


def _resize(x: Tensor, *, rows: int, cols: int) -> Tensor:
    """Resizes maps `x` [F, H, W, D] -> [F, rows, cols, D]: bilinear, corners not aligned."""
    x = F.interpolate(x.permute(0, 3, 1, 2), size=(rows, cols), mode="bilinear")
    return x.permute(0, 2, 3, 1)
