"""Scaled dot-product attention, grouped: queries, keys and values -> a mix of values per query.

`attend` is the plain form. Every attention module holds the function it calls, so that
accelerate/ can give it one of the same signature that is faster on its device.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.batch import Blocks


class Attend(Protocol):
    """A function that computes what `attend` does."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | Blocks | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attends with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K] -> [B, Q, S, K]."""
        ...


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | Blocks | None = None, is_causal: bool = False
) -> Tensor:
    """Attends with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K] -> [B, Q, S, K].

    Q is a multiple of G. `mask` [B, 1, S, T] is True where a query sees a key; `Blocks` of a single
    row keep its samples apart without ever comparing them.
    """
    if isinstance(mask, Blocks):
        return attend_by_sample(attend, q, k, v, blocks=mask)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1]
    )


def attend_by_sample(attend: Attend, q: Tensor, k: Tensor, v: Tensor, *, blocks: Blocks) -> Tensor:
    """Applies `attend` to each sample of one row: causally if the sample has no mask."""
    samples = zip(*(x.split(blocks.lengths, dim=2) for x in (q, k, v)), strict=True)
    mixed = [
        attend(*sample, mask=mask, is_causal=mask is None)
        for sample, mask in zip(samples, blocks.masks, strict=True)
    ]
    return torch.cat(mixed, dim=2)


def within_window(
    window: int | None, mask: Tensor | Blocks | None, position_ids: Tensor
) -> Tensor | Blocks | None:
    """Restricts each query to the last `window` positions, its own included; None: no limit.

    `position_ids` [B, S] belong to the queries and the keys. Returns `mask` unchanged if every
    position is within reach.
    """
    if window is None or int(position_ids.max()) < window:
        return mask
    if isinstance(mask, Blocks):
        rows = position_ids[0].split(mask.lengths)
        masks = (_near(window, m, p) for m, p in zip(mask.masks, rows, strict=True))
        return Blocks(lengths=mask.lengths, masks=tuple(masks))
    return _near(window, None if mask is None else mask[:, 0], position_ids)[:, None]


def _near(window: int, mask: Tensor | None, position_ids: Tensor) -> Tensor:
    """Returns [..., S, S], True where a query at one of `position_ids` [..., S] sees a key."""
    back = position_ids[..., :, None] - position_ids[..., None, :]
    return (back < window) & ((back >= 0) if mask is None else mask)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates `x` [B, heads, S, K] by position; pairs are (i, i + K/2)."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def rotate_neighbours(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates `x` [B, heads, S, K] by position; pairs are (2 i, 2 i + 1)."""
    cos, sin = rotation
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cos + turned * sin
