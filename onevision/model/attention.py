"""Scaled dot-product attention, grouped, by the fastest exact way there is for the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from onevision.batch import Blocks

# In training on a CPU so many queries of a row are compared at a time, and as many rows as keep the
# scores near this number, in the cache.
BLOCK_QUERIES = 512
BLOCK_SCORES = 2**22
# In inference on a CPU so many queries are compared at a time.
LAST_QUERIES = 64


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | Blocks | None = None, is_causal: bool = False
) -> Tensor:
    """Attend with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K] -> [B, Q, S, K].

    Q is a multiple of G. `mask` [B, 1, S, T] is True where a query sees a key; `Blocks` of a single
    row keep its samples apart without ever comparing them.
    """
    if isinstance(mask, Blocks):
        samples = zip(*(x.split(mask.lengths, dim=2) for x in (q, k, v)), strict=True)
        return torch.cat(
            [
                attend(*sample, mask=own, is_causal=own is None)
                for sample, own in zip(samples, mask.masks, strict=True)
            ],
            dim=2,
        )
    # On CPU the fused kernel is slow backwards and, for a single query, 19 times slower than plain
    # matrix products.
    if q.device.type == "cpu" and q.requires_grad and q.shape[2] > BLOCK_QUERIES:
        return _attend_in_blocks(q, k, v, mask=mask, is_causal=is_causal)
    if q.device.type == "cpu" and (q.requires_grad or q.shape[2] == 1):
        return _attend_plainly(q, k, v, mask=mask, is_causal=is_causal)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and mask is None and not is_causal:
        rows = zip(*(x[:, None] for x in (q, k, v)), strict=True)  # one at a time, in the cache
        return torch.cat([_attend_plainly(*row, mask=None, is_causal=False) for row in rows])
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1]
    )


def attend_last(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None) -> Tensor:
    """Attend causally with the last positions `q` [Q, S, K] of `k`, `v` [G, T, K] -> [Q, S, K].

    For inference: the queries are the last S of T positions, Q is a multiple of G, and a query sees
    no more than `window` positions back, itself included.
    """
    (_, length, _), total = q.shape, k.shape[1]
    if q.device.type != "cpu":
        return attend_last_fused(q, k, v, window=window)
    if length == 1:
        return _attend_once(q, k, v, window=window)
    out = torch.empty_like(q)
    by_group = out.unflatten(0, (len(k), -1))  # [G, Q/G, S, K], a view
    q = (q * q.shape[-1] ** -0.5).unflatten(0, (len(k), -1))
    room = q.new_empty(q.shape[1] * min(length, LAST_QUERIES) * total)
    for begin in range(0, length, LAST_QUERIES):
        end = min(begin + LAST_QUERIES, length)
        first, seen = total - length + begin, total - length + end
        keys = slice(max(0, first + 1 - (window or total)), seen)
        unseen = _unseen_last(first, keys, window=window, dtype=q.dtype)
        # Group by group: a batched product would copy keys that lie in a longer buffer.
        for group in range(len(k)):
            own = q[group, :, begin:end].flatten(0, 1)  # [Q/G * s, K]
            shape = (len(own), keys.stop - keys.start)
            scores = room[: shape[0] * shape[1]].view(shape)
            torch.mm(own, k[group, keys].T, out=scores)
            scores.unflatten(0, (-1, end - begin))[..., -unseen.shape[1] :] += unseen
            torch.softmax(scores, -1, out=scores)  # in place: more of them stay in the cache
            mixed = scores @ v[group, keys]
            by_group[group, :, begin:end] = mixed.unflatten(0, (-1, end - begin))
    return out


def _attend_once(q: Tensor, k: Tensor, v: Tensor, *, window: int | None) -> Tensor:
    """Attend with one position: the queries that share keys are the fused kernel's rows.

    It is slow for a row a head, since it then reads the keys once for each.
    """
    seen = slice(max(0, k.shape[1] - (window or k.shape[1])), None)
    rows = q.unflatten(0, (len(k), -1))[None, :, :, 0]  # [1, G, Q/G, K]
    mixed = F.scaled_dot_product_attention(rows, k[None, :, seen], v[None, :, seen])
    return mixed[0].flatten(0, 1)[:, None]


def _unseen_last(first: int, keys: slice, *, window: int | None, dtype: torch.dtype) -> Tensor:
    """Return minus infinity [s, t] where queries from `first` do not see the last t of `keys`."""
    if keys.start == 0 and (window is None or keys.stop <= window):  # the queries' own keys only
        shape = (keys.stop - first, keys.stop - first)
        return torch.full(shape, -torch.inf, dtype=dtype).triu(1)
    places = torch.arange(keys.start, keys.stop)
    back = torch.arange(first, keys.stop)[:, None] - places
    return _unseen((back >= 0) & (back < (window or keys.stop)), dtype)


def attend_last_fused(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None) -> Tensor:
    """Attend as `attend_last` does, in one kernel that never holds all scores.

    Flash attention shares keys between heads, but knows no mask and no fp32; what does has a key
    for each head.
    """
    length, total = q.shape[1], k.shape[1]
    mask = causal_lower_right(length, total) if 1 < length < total else None
    is_masked = window is not None and total > window
    if is_masked:
        back = torch.arange(total - length, total, device=q.device)[:, None]
        back = back - torch.arange(total, device=q.device)
        mask = (back >= 0) & (back < window)
    if is_masked or q.dtype == torch.float32:
        k, v = (x.repeat_interleave(len(q) // len(x), dim=0) for x in (k, v))
    return F.scaled_dot_product_attention(
        *(x[None] for x in (q, k, v)),
        attn_mask=mask,  # type: ignore
        is_causal=mask is None and length > 1,
        enable_gqa=len(k) != len(q),
    )[0]


def within_window(
    window: int | None, mask: Tensor | Blocks | None, position_ids: Tensor
) -> Tensor | Blocks | None:
    """Let every query see no more than `window` positions back, itself included; None: all.

    `position_ids` [B, S] are the queries' and the keys'. Returns `mask` as it came where nothing
    is out of reach.
    """
    if window is None or int(position_ids.max()) < window:
        return mask
    if isinstance(mask, Blocks):
        rows = position_ids[0].split(mask.lengths)
        masks = (_near(window, m, p, p) for m, p in zip(mask.masks, rows, strict=True))
        return Blocks(lengths=mask.lengths, masks=tuple(masks))
    own = None if mask is None else mask[:, 0]
    return _near(window, own, position_ids, position_ids)[:, None]


def _near(window: int, mask: Tensor | None, queries: Tensor, keys: Tensor) -> Tensor:
    """Return which of `keys` [..., T] are seen from `queries` [..., S]: [..., S, T]."""
    back = queries[..., :, None] - keys[..., None, :]
    return (back < window) & ((back >= 0) if mask is None else mask)


def _attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, is_causal: bool
) -> Tensor:
    if is_causal and q.shape[2] > 1:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    grouped = (q * q.shape[-1] ** -0.5).unflatten(1, (k.shape[1], -1))  # [B, G, Q/G, S, K]
    scores = grouped @ k[:, :, None].transpose(-1, -2)  # [B, G, Q/G, S, T]
    if mask is not None:  # added, not filled in: that leaves nothing to do backwards
        unseen = _unseen(mask, scores.dtype)
        scores = scores + (unseen if mask.dim() == 2 else unseen[:, None])
    weights = scores.softmax(-1)
    return (weights @ v[:, :, None]).flatten(1, 2)


def _attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, is_causal: bool
) -> Tensor:
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else v.dtype
    if mask is not None:  # [S, T] or [B, 1, S, T]
        mask = mask.expand(len(q), 1, q.shape[2], k.shape[2])[:, 0]
    q = q * q.shape[-1] ** -0.5
    return BlockAttention.apply(q.to(low), k.to(low), v.to(low), mask, is_causal)  # type: ignore


class BlockAttention(torch.autograd.Function):
    """softmax(q @ k.T + unseen) @ v, a block of queries at a time.

    A block's weights stay in the processor's cache and are made again backwards, so S x T of them
    never exist together; keys after a causal block are not looked at. `q` is scaled already.
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
        """Attend with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K]; `mask` is [B, S, T]."""
        ctx.save_for_backward(q, k, v, mask)
        ctx.is_causal = is_causal
        out = torch.empty_like(q)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(q, k, is_causal=is_causal):
                own_k, own_v = k[block.rows, :, block.keys], v[block.rows, :, block.keys]
                weights = _weights(block.read(q), own_k, block.unseen(mask, q.dtype))
                block.write(out, weights @ own_v)
        return out

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Make the weights again, block by block; gradients of keys and values add up in fp32."""
        q, k, v, mask = ctx.saved_tensors
        to_q = torch.empty_like(q)
        wide = torch.promote_types(q.dtype, torch.float32)
        to_k, to_v = torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        with torch.autocast("cpu", enabled=False):
            for block in _blocks(q, k, is_causal=ctx.is_causal):
                seen = (block.rows, slice(None), block.keys)
                own, to_mixed = block.read(q), block.read(grad)
                weights = _weights(own, k[seen], block.unseen(mask, q.dtype))
                to_v[seen] += weights.transpose(-1, -2) @ to_mixed
                to_scores = torch.ops.aten._softmax_backward_data(
                    to_mixed @ v[seen].transpose(-1, -2), weights, -1, weights.dtype
                )
                to_k[seen] += to_scores.transpose(-1, -2) @ own
                block.write(to_q, to_scores @ k[seen])
        return to_q, to_k.to(k.dtype), to_v.to(v.dtype), None, None


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some rows, some of their queries, and the keys these may see."""

    rows: slice
    queries: slice
    keys: slice
    num_groups: int
    is_causal: bool

    def read(self, x: Tensor) -> Tensor:
        """Take from `x` [B, Q, S, K]; heads that share keys lie one after the other.

        [R, G, Q/G * block, K].
        """
        heads = x[self.rows].unflatten(1, (self.num_groups, -1))
        return heads[:, :, :, self.queries].flatten(2, 3)

    def write(self, out: Tensor, x: Tensor) -> None:
        """Put `x` [R, G, Q/G * block, K] into `out` [B, Q, S, K]."""
        heads = out[self.rows].unflatten(1, (self.num_groups, -1))  # a view
        heads[:, :, :, self.queries] = x.unflatten(2, (heads.shape[2], -1))

    def unseen(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Return minus infinity [1 or R, block, T] where a key is not seen, 0 elsewhere."""
        if mask is not None:
            return _unseen(mask[self.rows, self.queries], dtype)
        if not self.is_causal:
            return None
        shape = (1, self.queries.stop - self.queries.start, self.keys.stop)
        return torch.full(shape, float("-inf"), dtype=dtype).triu(self.queries.start + 1)


def _blocks(q: Tensor, k: Tensor, *, is_causal: bool) -> Iterator[Block]:
    num_rows, num_heads, length, _ = q.shape
    size = min(BLOCK_QUERIES, length)
    rows_at_once = max(1, BLOCK_SCORES // (num_heads * size * k.shape[2]))
    for row in range(0, num_rows, rows_at_once):
        for begin in range(0, length, size):
            end = min(begin + size, length)
            yield Block(
                rows=slice(row, row + rows_at_once),
                queries=slice(begin, end),
                keys=slice(0, end if is_causal else k.shape[2]),
                num_groups=k.shape[1],
                is_causal=is_causal,
            )


def _weights(q: Tensor, k: Tensor, unseen: Tensor | None) -> Tensor:
    """Return what each of `q` [R, G, Q/G * block, K] takes of each key: [R, G, Q/G * block, T]."""
    scores = q @ k.transpose(-1, -2)
    if unseen is not None:
        by_head = scores.unflatten(2, (-1, unseen.shape[1]))  # [R, G, Q/G, block, T]
        by_head += unseen[:, None, None]
    return scores.softmax(-1)


def _unseen(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))
