"""Attention on a CPU: what `model.attention.attend` computes, faster, above all in training.

torch's fused kernel is slow backwards on a CPU, and in bf16 without AMX forwards too. Short rows
are plain matrix products; long ones are taken a block of queries at a time, so that S x T weights
never exist together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onevision.accelerate.processor import has_amx
from onevision.batch import Blocks
from onevision.model.attention import attend, attend_by_sample

# Queries of a row per block, and the number of scores per block, which should fit in the cache: it
# limits the rows that are computed together.
BLOCK_QUERIES = 512
MAX_PLAIN_QUERIES = 1024
BLOCK_SCORES = 2**22
# Scores of some heads of a row, where there is no mask: 8 MiB in bf16.
SCORES_AT_ONCE = 2**22


def attend_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | Blocks | None = None, is_causal: bool = False
) -> Tensor:
    """Attends with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K] -> [B, Q, S, K].

    Arguments are those of `model.attention.attend`.
    """
    if isinstance(mask, Blocks):
        return attend_by_sample(attend_on_cpu, q, k, v, blocks=mask)
    if q.requires_grad and q.shape[2] > BLOCK_QUERIES:
        return _attend_in_blocks(q, k, v, mask=mask, is_causal=is_causal)
    if q.requires_grad or q.shape[2] == 1:  # a single query is 19 times faster than fused
        return _attend_plainly(q, k, v, mask=mask, is_causal=is_causal)
    if q.dtype == torch.bfloat16 and mask is None and not is_causal and not has_amx():
        if q.shape[2] > MAX_PLAIN_QUERIES:  # a whole picture at native resolution
            return _attend_in_blocks(q, k, v, mask=None, is_causal=False)
        return _attend_by_heads(q, k, v)
    return attend(q, k, v, mask=mask, is_causal=is_causal)


def bias_of(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns what to add to scores: 0 where `mask` is True, minus infinity elsewhere."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))


def _attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, is_causal: bool
) -> Tensor:
    if is_causal and q.shape[2] > 1:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    grouped = (q * q.shape[-1] ** -0.5).unflatten(1, (k.shape[1], -1))  # [B, G, Q/G, S, K]
    scores = grouped @ k[:, :, None].transpose(-1, -2)  # [B, G, Q/G, S, T]
    if mask is not None:  # adding, unlike filling, costs nothing in the backward pass
        bias = bias_of(mask, scores.dtype)
        scores = scores + (bias if mask.dim() == 2 else bias[:, None])
    weights = scores.softmax(-1)
    return (weights @ v[:, :, None]).flatten(1, 2)


def _attend_by_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attends to all keys with some heads of a row at a time: scores stay in the cache."""
    (num_rows, num_heads, length, _), shared = q.shape, q.shape[1] // k.shape[1]
    most = max(1, SCORES_AT_ONCE // (length * k.shape[2] * shared))  # groups at a time
    heads_at_once = -(-k.shape[1] // -(-k.shape[1] // most)) * shared
    q, k, v = ((q * q.shape[-1] ** -0.5).contiguous(), k.contiguous(), v.contiguous())
    out = torch.empty_like(q)
    for row in range(num_rows):
        for begin in range(0, num_heads, heads_at_once):
            own = slice(begin, begin + heads_at_once)
            keys = slice(begin // shared, own.stop // shared)
            own_k, own_v = (
                x[row, keys, None].expand(-1, shared, -1, -1).flatten(0, 1) for x in (k, v)
            )
            scores = torch.bmm(q[row, own], own_k.mT)
            torch.softmax(scores, -1, out=scores)
            torch.bmm(scores, own_v, out=out[row, own])
    return out


def _attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, is_causal: bool
) -> Tensor:
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else v.dtype
    if mask is not None:  # [S, T] or [B, 1, S, T]
        mask = mask.expand(len(q), 1, q.shape[2], k.shape[2])[:, 0]
    q = q * q.shape[-1] ** -0.5
    return BlockAttention.apply(q.to(low), k.to(low), v.to(low), mask, is_causal)  # type: ignore


class BlockAttention(torch.autograd.Function):
    """softmax(q @ k.T + bias) @ v, a block of queries at a time.

    A block's weights stay in the processor's cache and are recomputed in the backward pass. Keys
    after a causal block are skipped. `q` is already scaled.
    """

    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        is_causal: bool,  # noqa: FBT001 torch takes positions
    ) -> Tensor:
        """Attends with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K]; `mask` is [B, S, T]."""
        ctx.save_for_backward(q, k, v, mask)
        ctx.is_causal = is_causal
        out = torch.empty_like(q)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(q, k, is_causal=is_causal):
                own_k, own_v = k[block.rows, :, block.keys], v[block.rows, :, block.keys]
                weights = _weights(block.read(q), own_k, block.bias(mask, q.dtype))
                block.write(out, weights @ own_v)
        return out

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Recomputes the weights block by block; gradients of keys and values add up in fp32."""
        q, k, v, mask = ctx.saved_tensors
        to_q = torch.empty_like(q)
        wide = torch.promote_types(q.dtype, torch.float32)
        to_k, to_v = torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(q, k, is_causal=ctx.is_causal):
                visible = (block.rows, slice(None), block.keys)
                own, to_mixed = block.read(q), block.read(grad)
                weights = _weights(own, k[visible], block.bias(mask, q.dtype))
                to_v[visible] += weights.transpose(-1, -2) @ to_mixed
                to_scores = torch.ops.aten._softmax_backward_data(
                    to_mixed @ v[visible].transpose(-1, -2), weights, -1, weights.dtype
                )
                to_k[visible] += to_scores.transpose(-1, -2) @ own
                block.write(to_q, to_scores @ k[visible])
        return to_q, to_k.to(k.dtype), to_v.to(v.dtype), None, None


@dataclass(frozen=True, kw_only=True)
class QueryBlock:
    """Some rows, some of their queries, and the keys that these may see."""

    rows: slice
    queries: slice
    keys: slice
    num_groups: int
    is_causal: bool

    def read(self, x: Tensor) -> Tensor:
        """Returns this part of `x` [B, Q, S, K] as [R, G, Q/G * block, K].

        Heads that share keys lie one after the other.
        """
        heads = x[self.rows].unflatten(1, (self.num_groups, -1))
        return heads[:, :, :, self.queries].flatten(2, 3)

    def write(self, out: Tensor, x: Tensor) -> None:
        """Puts `x` [R, G, Q/G * block, K] into `out` [B, Q, S, K]."""
        heads = out[self.rows].unflatten(1, (self.num_groups, -1))  # a view
        heads[:, :, :, self.queries] = x.unflatten(2, (heads.shape[2], -1))

    def bias(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Returns minus infinity [1 or R, block, T] for keys that are hidden, 0 elsewhere."""
        if mask is not None:
            return bias_of(mask[self.rows, self.queries], dtype)
        if not self.is_causal:
            return None
        shape = (1, self.queries.stop - self.queries.start, self.keys.stop)
        return torch.full(shape, float("-inf"), dtype=dtype).triu(self.queries.start + 1)


def _blocks(q: Tensor, k: Tensor, *, is_causal: bool) -> Iterator[QueryBlock]:
    num_rows, num_heads, length, _ = q.shape
    size = min(BLOCK_QUERIES, length)
    rows_at_once = max(1, BLOCK_SCORES // (num_heads * size * k.shape[2]))
    for row in range(0, num_rows, rows_at_once):
        for begin in range(0, length, size):
            end = min(begin + size, length)
            yield QueryBlock(
                rows=slice(row, row + rows_at_once),
                queries=slice(begin, end),
                keys=slice(0, end if is_causal else k.shape[2]),
                num_groups=k.shape[1],
                is_causal=is_causal,
            )


def _weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Returns the weight of each key for each of `q` [R, G, Q/G * block, K]: [..., T]."""
    scores = q @ k.transpose(-1, -2)
    if bias is not None:
        by_head = scores.unflatten(2, (-1, bias.shape[1]))  # [R, G, Q/G, block, T]
        by_head += bias[:, None, None]
    return scores.softmax(-1)
