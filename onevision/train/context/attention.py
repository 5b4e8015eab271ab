"""Shares of a sequence <-> shares of the heads: each process attends with some heads to all of it.

    q [B, Q, S/N, K], k and v [B, G, S/N, K]   of this process's positions
      all-to-all -> [B, Q/N, S, K] ...         its heads, of all positions
      attention  -> [B, Q/N, S, K]             by the whole row's mask
      all-to-all -> [B, Q, S/N, K]             its positions, of all heads

If N does not divide the G key/value heads, they are repeated until it does; since N divides the
query heads, so does the number that they are repeated to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from onevision.batch import Blocks
from onevision.model.attention import Attend
from onevision.train.context.division import count_repeats, cut_evenly


class Exchange(torch.autograd.Function):
    """Sends rows to the processes of a group; gradients go back the same way."""

    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any,
        rows: Tensor,
        num_given: Sequence[int],
        num_got: Sequence[int],
        group: dist.ProcessGroup,
    ) -> Tensor:
        """Takes `rows` [sum(num_given), ...] in the order of the receivers."""
        ctx.num_given, ctx.num_got, ctx.group = num_given, num_got, group
        return _exchange(rows, num_given, num_got, group)

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Returns the gradients of `rows` from their receivers."""
        return _exchange(grad, ctx.num_got, ctx.num_given, ctx.group), None, None, None


def exchange(
    rows: Tensor, *, num_given: Sequence[int], num_got: Sequence[int], group: dist.ProcessGroup
) -> Tensor:
    """Gives `rows` [sum(num_given), ...] to the processes of a group, so many to each.

    Returns what they gave [sum(num_got), ...], in their order.
    """
    return Exchange.apply(rows, num_given, num_got, group)  # type: ignore


def _exchange(
    rows: Tensor, num_given: Sequence[int], num_got: Sequence[int], group: dist.ProcessGroup
) -> Tensor:
    got = rows.new_empty(sum(num_got), *rows.shape[1:])
    dist.all_to_all_single(got, rows.contiguous(), list(num_got), list(num_given), group=group)
    return got


@dataclass(frozen=True, kw_only=True)
class SharedAttention:
    """Attention to a sequence that is divided among a group; stands where a cache does."""

    function: Attend
    # The whole row's, each query's window included.
    mask: Tensor | Blocks | None
    length: int  # S
    place: int
    group: dist.ProcessGroup

    @torch.compiler.disable  # what is sent is not compiled
    def attend(self, _layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attends with `q` [B, Q, S/N, K] to the `k`, `v` [B, G, S/N, K] of all processes."""
        count = self.group.size()
        times = count_repeats(k.shape[1], count)
        q, k = q.to(v.dtype), k.to(v.dtype)  # positions are rotated in a wider type
        k, v = (x.repeat_interleave(times, dim=1) if times > 1 else x for x in (k, v))
        widths = [x.shape[1] // count for x in (q, k, v)]
        q, k, v = self._to_heads([q, k, v]).split(widths, dim=1)
        mixed = self.function(q, k, v, mask=self.mask, is_causal=self.mask is None)
        return self._to_positions(mixed)

    @property
    def _sizes(self) -> list[int]:
        cuts = cut_evenly(self.length, self.group.size())
        return [end - begin for begin, end in pairwise(cuts)]

    def _to_heads(self, tensors: Sequence[Tensor]) -> Tensor:
        """Turns each [B, heads, S/N, K] into this process's heads of all positions, joined."""
        sizes, count = self._sizes, self.group.size()
        parts = torch.cat([x.unflatten(1, (count, -1)) for x in tensors], dim=2)
        rows = parts.permute(1, 3, 0, 2, 4).flatten(0, 1)  # [N * S/N, B, heads/N, K]
        got = exchange(rows, num_given=[sizes[self.place]] * count, num_got=sizes, group=self.group)
        return got.permute(1, 2, 0, 3)  # [B, heads/N, S, K]

    def _to_positions(self, x: Tensor) -> Tensor:
        """Turns `x` [B, Q/N, S, K] into [B, Q, S/N, K]."""
        sizes, count = self._sizes, self.group.size()
        rows = x.permute(2, 0, 1, 3)  # [S, B, Q/N, K]
        got = exchange(rows, num_given=sizes, num_got=[sizes[self.place]] * count, group=self.group)
        return got.unflatten(0, (count, -1)).permute(2, 0, 3, 1, 4).flatten(1, 2)
