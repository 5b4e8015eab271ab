"""Attention block by block of queries is the fused kernel's, with its gradients."""

import pytest
import torch
import torch.nn.functional as F

from onevision.accelerate import cpu_attention
from onevision.accelerate.cpu_attention import attend_on_cpu
from onevision.batch import Blocks
from onevision.model.attention import attend


@pytest.mark.parametrize("sees", ["everything", "the past", "a mask", "a mask of each row"])
def test_blocks_of_queries_give_the_attention_and_gradients_of_the_fused_kernel(monkeypatch, sees):
    monkeypatch.setattr(cpu_attention, "BLOCK_QUERIES", 5)
    monkeypatch.setattr(cpu_attention, "BLOCK_SCORES", 2 * 4 * 5 * 13)  # two rows at a time
    shapes = [(3, 4, 13, 8), (3, 2, 13, 8), (3, 2, 13, 8)]
    q, k, v = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    causal = torch.ones(13, 13, dtype=torch.bool).tril()
    masks = {
        "a mask": causal & (torch.rand(13, 13) < 0.7) | torch.eye(13, dtype=torch.bool),
        "a mask of each row": causal & (torch.rand(3, 1, 13, 13) < 0.7) | torch.eye(13).bool(),
    }
    mask, is_causal = masks.get(sees), sees == "the past"
    found = attend_on_cpu(q, k, v, mask=mask, is_causal=is_causal)
    expected = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=True
    )
    assert torch.allclose(found, expected)
    grad = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(x, (q, k, v), grad) for x in (found, expected))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def test_no_gradient_leaks_between_samples_longer_than_a_block(monkeypatch):
    monkeypatch.setattr(cpu_attention, "BLOCK_QUERIES", 4)
    q, k, v = (torch.randn(1, 2, 17, 8, requires_grad=True) for _ in range(3))
    mask = Blocks(lengths=(9, 8), masks=(None, None))
    attend_on_cpu(q, k, v, mask=mask)[:, :, :9].sum().backward()
    for x in (q, k, v):
        assert x.grad is not None
        assert torch.equal(x.grad[:, :, 9:], torch.zeros(1, 2, 8, 8))


@pytest.mark.parametrize("causal", [True, False])
def test_short_rows_give_the_attention_of_the_fused_kernel(causal):
    q = torch.randn(2, 4, 7, 8, requires_grad=True)
    k, v = torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    expected = attend(q, k, v, is_causal=causal)
    assert torch.allclose(attend_on_cpu(q, k, v, is_causal=causal), expected, atol=1e-5)


def test_a_mask_hides_keys_in_training_and_in_inference():
    q, k, v = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    mask = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)[None, None]
    expected = v[:, :, :1].expand(-1, -1, 3, -1)
    for queries in (q, q.clone().requires_grad_()):
        assert torch.allclose(attend_on_cpu(queries, k, v, mask=mask), expected)
