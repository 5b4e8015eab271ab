"""Attention of new tokens to a KV cache: queries + cached keys and values -> mixed values.

For inference: the queries are the last positions of their keys, so no mask needs to be passed.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.accelerate.cpu_attention import bias_of
from onevision.accelerate.processor import has_amx
from onevision.accelerate.zentorch_library import find_zentorch_obstacle

logger = logging.getLogger(__name__)

# Queries that are compared at a time on a CPU.
BLOCK_QUERIES = 64
# From so many keys on, zentorch attends faster with one position than torch (docs/performance.md).
MANY_KEYS = 256
# Numbers of keys at which it is compared with torch before it is used, and how far it may be off.
TESTED_KEYS = (MANY_KEYS, 513, 1100)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}

# Queries [1, G, Q/G, K], keys and values [1, G, T, K] -> mixed values [1, G, Q/G, K].
AttendRow = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend_last(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None) -> Tensor:
    """Attends causally with the last positions `q` [Q, S, K] of `k`, `v` [G, T, K] -> [Q, S, K].

    The queries are the last S of T positions, Q is a multiple of G, and a query sees at most the
    last `window` positions, its own included.
    """
    if q.device.type != "cpu":
        return attend_last_fused(q, k, v, window=window)
    if q.shape[1] == 1:
        return attend_rows(q, [k], [v], window=window)
    is_whole = window is None or k.shape[1] <= window
    if is_whole and q.dtype == torch.bfloat16 and has_amx():
        return attend_last_in_two(q, k, v)
    return attend_last_in_blocks(q, k, v, window=window)


def attend_rows(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *, window: int | None = None
) -> Tensor:
    """Attends with row i of `q` [Q, n, K] to `keys[i]`, `values[i]` [G, T_i, K] -> [Q, n, K].

    One query for each of n sequences, with few calls: a small model on a CPU spends more time on
    calls than on arithmetic. Queries that share keys become rows of one head, since the fused
    kernel otherwise reads the keys once per head. A row's bits do not depend on the other rows.
    """
    rows = q.unflatten(0, (keys[0].shape[0], -1)).movedim(2, 0).contiguous()  # [n, G, Q/G, K]
    attend_many = attention_to_many(*rows.shape[1:], dtype=q.dtype)
    mixed = [
        (attend_many if own_k.shape[1] >= MANY_KEYS else F.scaled_dot_product_attention)(
            row, own_k[None], own_v[None]
        )
        for row, own_k, own_v in zip(
            rows.split(1), _visible(keys, window), _visible(values, window), strict=True
        )
    ]
    return torch.cat(mixed).flatten(1, 2).transpose(0, 1)


@cache
def attention_to_many(groups: int, shared: int, size: int, *, dtype: torch.dtype) -> AttendRow:
    """Returns what attends with one position to many keys: zentorch's kernel, if right, or torch's.

    For `groups` heads of keys of `size` numbers, each with `shared` queries.
    """
    if dtype not in TOLERANCE or find_zentorch_obstacle() is not None:
        return F.scaled_dot_product_attention
    shape, random = (groups, max(TESTED_KEYS) + 1, size), torch.Generator().manual_seed(0)
    k, v = (torch.randn(shape, generator=random).to(dtype)[None] for _ in range(2))
    q = torch.randn(1, groups, shared, size, generator=random).to(dtype)
    for total in TESTED_KEYS:
        own = q, k[:, :, :total], v[:, :, :total]  # within longer buffers, as in a cache
        expected = F.scaled_dot_product_attention(*own).float()
        error = (_attend_by_zentorch(*own).float() - expected).norm() / expected.norm()
        if not error < TOLERANCE[dtype]:
            logger.warning("zentorch attends wrongly to %d keys %s: torch does it", total, shape)
            return F.scaled_dot_product_attention
    return _attend_by_zentorch


def _attend_by_zentorch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ops.zentorch.zentorch_sdpa(q, k, v)[0]


def attend_last_fused(q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None) -> Tensor:
    """Attends as `attend_last` does, in one GPU kernel that never holds all scores.

    Flash attention shares keys between heads but takes neither masks nor fp32; the kernel that
    does needs keys for each head.
    """
    # Its module imports torch's compiler, which takes longer than the rest of torch.
    from torch.nn.attention.bias import causal_lower_right

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


def attend_last_in_two(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attends as `attend_last` does, to the queries' own keys and to earlier ones, each fused.

    All queries see the earlier keys, so those that share them become rows of one head. The two are
    mixed by the sums of their weights (arXiv 2205.14135, section 3.1).
    """
    earlier, num_shared = k.shape[1] - q.shape[1], len(q) // len(k)
    own_k, own_v = (x[:, earlier:].repeat_interleave(num_shared, dim=0) for x in (k, v))
    own, own_sum = _attend_fused(q, own_k, own_v, is_causal=True)
    if not earlier:
        return own
    rows = q.unflatten(0, (len(k), -1)).flatten(1, 2)  # [G, Q/G * S, K]
    old, old_sum = _attend_fused(rows, k[:, :earlier], v[:, :earlier], is_causal=False)
    share = torch.sigmoid(old_sum.reshape(own_sum.shape) - own_sum)[..., None]
    return torch.lerp(own.float(), old.reshape(own.shape).float(), share).to(q.dtype)


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool) -> tuple[Tensor, Tensor]:
    """Returns mixed values [Q, S, K], and the logarithm of the sum of weights [Q, S]."""
    mixed, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q[None], k[None], v[None], 0.0, is_causal
    )
    return mixed[0], log_sum[0]


def attend_last_in_blocks(q: Tensor, k: Tensor, v: Tensor, *, window: int | None) -> Tensor:
    """Attends as `attend_last` does, a block of queries at a time, by plain products."""
    (_, length, _), total = q.shape, k.shape[1]
    out = torch.empty_like(q)
    by_group = out.unflatten(0, (len(k), -1))  # [G, Q/G, S, K], a view
    q = (q * q.shape[-1] ** -0.5).unflatten(0, (len(k), -1))
    room = q.new_empty(q.shape[1] * min(length, BLOCK_QUERIES) * total)
    for begin in range(0, length, BLOCK_QUERIES):
        end = min(begin + BLOCK_QUERIES, length)
        first, stop = total - length + begin, total - length + end
        keys = slice(max(0, first + 1 - (window or total)), stop)
        bias = _bias(first, keys, window=window, dtype=q.dtype)
        # Group by group: a batched product would copy keys that lie in a longer buffer.
        for group in range(len(k)):
            own = q[group, :, begin:end].flatten(0, 1)  # [Q/G * s, K]
            shape = (len(own), keys.stop - keys.start)
            scores = room[: shape[0] * shape[1]].view(shape)
            torch.mm(own, k[group, keys].T, out=scores)
            scores.unflatten(0, (-1, end - begin))[..., -bias.shape[1] :] += bias
            torch.softmax(scores, -1, out=scores)  # in place: more of them stay in the cache
            mixed = scores @ v[group, keys]
            by_group[group, :, begin:end] = mixed.unflatten(0, (-1, end - begin))
    return out


def _bias(first: int, keys: slice, *, window: int | None, dtype: torch.dtype) -> Tensor:
    """Returns minus infinity [s, t] where queries from `first` do not see the last t of `keys`."""
    if keys.start == 0 and (window is None or keys.stop <= window):  # the queries' own keys only
        shape = (keys.stop - first, keys.stop - first)
        return torch.full(shape, -torch.inf, dtype=dtype).triu(1)
    places = torch.arange(keys.start, keys.stop)
    back = torch.arange(first, keys.stop)[:, None] - places
    return bias_of((back >= 0) & (back < (window or keys.stop)), dtype)


def _visible(rows: Sequence[Tensor], window: int | None) -> Sequence[Tensor]:
    return rows if window is None else [row[:, max(0, row.shape[1] - window) :] for row in rows]
