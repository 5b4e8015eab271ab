"""Attention of the last positions of a row, as in answering, against the formula."""

import pytest
import torch

from onevision.model.attention import attend_last


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
