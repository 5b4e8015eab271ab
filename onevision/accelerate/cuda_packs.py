"""Samples of a pack on a GPU -> the attention of each to itself, all causal ones in one kernel.

One call a sample costs a launch each, forwards and backwards, and small samples leave the GPU idle;
flash attention for variable lengths (arXiv 2307.08691) takes all causal samples of a row at once.

This module and torch's import torch's compiler, which takes longer than the rest of torch: only
training on a GPU imports them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from onevision.batch import Blocks
from onevision.model.attention import attend, attend_by_sample

# What flash attention multiplies, and the widest heads that it takes, in steps of 8.
DTYPES, MAX_HEAD_SIZE = (torch.bfloat16, torch.float16), 256
# The first generation of GPUs with flash attention.
LEAST_CAPABILITY = (8, 0)

# From queries [T, Q, K], keys and values [T, G, K] and the lengths of T's samples to [T, Q, K].
AttendSamples = Callable[[Tensor, Tensor, Tensor, Sequence[int]], Tensor]


@torch.compiler.disable  # every pack would be another program: lengths are plain numbers
def attend_to_pack(q: Tensor, k: Tensor, v: Tensor, *, blocks: Blocks) -> Tensor:
    """Attends with `q` [1, Q, S, K] to `k`, `v` [1, G, S, K], each sample to itself."""
    fits = v.dtype in DTYPES and v.shape[-1] <= MAX_HEAD_SIZE and not v.shape[-1] % 8
    if not (fits and _has_flash(v.device)):
        return attend_by_sample(attend, q, k, v, blocks=blocks)
    # Under autocast, rotated queries and keys are wider than values, and the kernel takes one type.
    q, k = q.to(v.dtype), k.to(v.dtype)
    return attend_packed(q, k, v, blocks=blocks, attend_samples=attend_varlen)


def attend_packed(
    q: Tensor, k: Tensor, v: Tensor, *, blocks: Blocks, attend_samples: AttendSamples
) -> Tensor:
    """Attends with `q` [1, Q, S, K] to `k`, `v` [1, G, S, K], each sample to itself.

    All causal samples go through `attend_samples` at once; one with a mask goes by itself.
    """
    causal = [i for i, mask in enumerate(blocks.masks) if mask is None]
    if len(causal) < 2:
        return attend_by_sample(attend, q, k, v, blocks=blocks)
    if len(causal) == len(blocks.lengths):
        return _attend_causally(q, k, v, blocks.lengths, attend_samples)
    parts = [x.split(blocks.lengths, dim=2) for x in (q, k, v)]
    own_q, own_k, own_v = (torch.cat([own[i] for i in causal], dim=2) for own in parts)
    lengths = [blocks.lengths[i] for i in causal]
    mixed = _attend_causally(own_q, own_k, own_v, lengths, attend_samples)
    found = dict(zip(causal, mixed.split(lengths, dim=2), strict=True))
    for i, mask in enumerate(blocks.masks):
        if mask is not None:
            found[i] = attend(*(own[i] for own in parts), mask=mask)
    return torch.cat([found[i] for i in range(len(found))], dim=2)


def _attend_causally(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], attend_samples: AttendSamples
) -> Tensor:
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))  # [S, heads, K]
    return attend_samples(q, k, v, lengths).transpose(0, 1)[None]


def attend_varlen(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attends causally within each sample, by flash attention: an `AttendSamples` for a GPU."""
    bounds, longest = _boundaries(tuple(lengths), q.device), max(lengths)
    mixed = varlen_attn(
        q, k, v, bounds, bounds, longest, longest,
        window_size=(-1, 0), enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    assert isinstance(mixed, Tensor)
    return mixed


@lru_cache(maxsize=64)  # one row for all layers, forwards and backwards; several if accumulated
def _boundaries(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Returns where samples begin, and the end of the last, int32 [n + 1]."""
    with torch.inference_mode(mode=False):  # measuring a loss must not spoil it for a training step
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


@lru_cache(maxsize=16)
def _has_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY
