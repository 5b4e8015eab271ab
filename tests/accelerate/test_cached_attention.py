"""Attention to a cache, as in inference, against the formula, alone and together."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from onevision.accelerate import cached_attention
from onevision.accelerate.cached_attention import (
    MANY_KEYS,
    TESTED_KEYS,
    attend_last,
    attend_last_fused,
    attend_last_in_blocks,
    attend_last_in_two,
    attend_rows,
    attention_to_many,
)


def by_the_formula(q, k, v, window):
    """Let every query of every head look at what it may see."""
    out = torch.empty_like(q, dtype=torch.float64)
    total, length = k.shape[1], q.shape[1]
    for head in range(len(q)):
        group = head // (len(q) // len(k))
        for i in range(length):
            end = total - length + i + 1
            seen = slice(max(0, end - (window or total)), end)
            scores = k[group, seen].double() @ q[head, i].double() / q.shape[-1] ** 0.5
            out[head, i] = scores.softmax(0) @ v[group, seen].double()
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 17])
@pytest.mark.parametrize(("length", "total"), [(1, 1), (1, 90), (65, 65), (70, 150), (3, 40)])
@torch.inference_mode()
def test_the_last_positions_see_what_they_may(length, total, window, dtype):
    torch.manual_seed(0)
    q = torch.randn(6, length, 8).to(dtype)
    longer = torch.randn(2, 2, total + 5, 8).to(dtype)  # as in a cache with room for more
    k, v = longer[:, :, :total]
    found = attend_last(q, k, v, window=window)
    expected = by_the_formula(q, k, v, window)
    assert found.shape == q.shape
    assert (found - expected).abs().max() < (1e-5 if dtype == torch.float32 else 0.04)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "total"), [(65, 65), (70, 150), (3, 40)])
@torch.inference_mode()
def test_own_and_earlier_keys_are_mixed_as_if_they_were_together(length, total, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(h, n, 16).to(dtype) for h, n in ((6, length), (2, total), (2, total)))
    expected = by_the_formula(q, k, v, None)
    for attend in (attend_last_in_two, partial(attend_last_in_blocks, window=None)):
        apart = (attend(q, k, v) - expected).abs().max()
        assert apart < (1e-5 if dtype == torch.float32 else 0.04)


@pytest.mark.parametrize("window", [None, 4])
def test_rows_together_give_the_bits_of_each_alone(window):
    lengths = [1, 3, 70]
    q = torch.randn(4, len(lengths), 8)
    keys, values = ([torch.randn(2, length, 8) for length in lengths] for _ in range(2))
    together = attend_rows(q, keys, values, window=window)
    for i, (k, v) in enumerate(zip(keys, values, strict=True)):
        alone = attend_last(q[:, i : i + 1], k, v, window=window)
        assert torch.equal(together[:, i : i + 1], alone)


@pytest.mark.parametrize(("length", "total"), [(1, 9), (9, 9), (4, 9)])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 2**-5), (torch.float32, 4e-6)])
def test_the_kernel_for_a_gpu_gives_what_blocks_give(length, total, window, dtype, near):
    torch.manual_seed(0)
    q, k, v = (torch.randn(h, n, 16).to(dtype) for h, n in ((4, length), (2, total), (2, total)))
    blocks, fused = (attend(q, k, v, window=window) for attend in (attend_last, attend_last_fused))
    assert (blocks - fused).abs().max() <= near


@pytest.mark.parametrize("scale", [1.0, 1.1])
@torch.inference_mode()
def test_a_faster_kernel_is_used_from_many_keys_on_if_it_is_right(scale, monkeypatch, caplog):
    calls = []

    def attend(q, k, v):
        calls.append(k.shape[2])
        return F.scaled_dot_product_attention(q, k, v) * scale

    monkeypatch.setattr(cached_attention, "find_zentorch_obstacle", lambda: None)
    monkeypatch.setattr(cached_attention, "_attend_by_zentorch", attend)
    attention_to_many.cache_clear()
    q, lengths = torch.randn(4, 3, 8), [3, MANY_KEYS - 1, MANY_KEYS]
    keys, values = ([torch.randn(2, length, 8) for length in lengths] for _ in range(2))
    found = attend_rows(q, keys, values)
    attention_to_many.cache_clear()
    for i, (k, v) in enumerate(zip(keys, values, strict=True)):
        own = slice(i, i + 1)
        assert (found[:, own] - by_the_formula(q[:, own], k, v, None)).abs().max() < 1e-5
    is_right = scale == 1
    assert calls[len(TESTED_KEYS) :] == [MANY_KEYS] if is_right else calls == [MANY_KEYS]
    assert ("torch does it" in caplog.text) != is_right
