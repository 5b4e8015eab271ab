"""What benchmarks/train.py compares is the same for both ways, and its fast path is exact."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.train import ONEVISION_MIXED_16, draw, padded, shape_named
from onevision.anyres import VideoLayout
from onevision.batch import Blocks
from onevision.model import attention

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def config():
    return shape_named("benchmark")


@pytest.fixture(scope="module")
def examples(config):
    return draw(0, config)


def test_a_step_sees_the_mix_in_any_order(config, examples):
    answers = sorted(sample.answer for sample in ONEVISION_MIXED_16)
    for drawn in (examples, draw(1, config)):
        assert sorted(int((e.labels >= 0).sum()) for e in drawn) == answers


def test_padding_keeps_labels_and_crops(examples):
    batch = padded(examples, mean=HALF, std=HALF)
    assert int((batch["labels"] >= 0).sum()) == sum(s.answer for s in ONEVISION_MIXED_16)
    longest = max(len(e.input_ids) for e in examples)
    assert batch["input_ids"].shape == (len(examples), longest)
    videos = [e for e in examples if any(isinstance(la, VideoLayout) for la in e.layouts)]
    assert len(batch["pixel_values_videos"]) == len(videos) == 3
    assert batch["batch_num_images"].sum() == len(batch["pixel_values"]) == 12


@pytest.mark.parametrize("sees", ["everything", "the past", "a mask", "a mask of each row"])
def test_blocks_of_queries_give_the_attention_and_gradients_of_the_fused_kernel(monkeypatch, sees):
    monkeypatch.setattr(attention, "BLOCK_QUERIES", 5)
    monkeypatch.setattr(attention, "BLOCK_SCORES", 2 * 4 * 5 * 13)  # two rows at a time
    shapes = [(3, 4, 13, 8), (3, 2, 13, 8), (3, 2, 13, 8)]
    q, k, v = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes)
    causal = torch.ones(13, 13, dtype=torch.bool).tril()
    masks = {
        "a mask": causal & (torch.rand(13, 13) < 0.7) | torch.eye(13, dtype=torch.bool),
        "a mask of each row": causal & (torch.rand(3, 1, 13, 13) < 0.7) | torch.eye(13).bool(),
    }
    mask, is_causal = masks.get(sees), sees == "the past"
    found = attention.attend(q, k, v, mask=mask, is_causal=is_causal)
    expected = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=True
    )
    assert torch.allclose(found, expected)
    grad = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(x, (q, k, v), grad) for x in (found, expected))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def test_no_gradient_leaks_between_samples_longer_than_a_block(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK_QUERIES", 4)
    q, k, v = (torch.randn(1, 2, 17, 8, requires_grad=True) for _ in range(3))
    mask = Blocks(lengths=(9, 8), masks=(None, None))
    attention.attend(q, k, v, mask=mask)[:, :, :9].sum().backward()
    for x in (q, k, v):
        assert x.grad is not None
        assert torch.equal(x.grad[:, :, 9:], torch.zeros(1, 2, 8, 8))
