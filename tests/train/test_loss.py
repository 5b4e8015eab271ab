"""The chunked loss is the cross-entropy of the full logits, and never holds them."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from onevision.train import loss as module
from onevision.train.loss import ChunkedCrossEntropy

VOCAB, WIDTH = 50, 8


def inputs(count):
    generator = torch.Generator().manual_seed(count)
    hidden = torch.randn(count, WIDTH, generator=generator).requires_grad_()
    head = torch.randn(VOCAB, WIDTH, generator=generator).requires_grad_()
    targets = torch.randint(VOCAB, (count,), generator=generator)
    return hidden, head, targets, torch.rand(count, generator=generator)


@pytest.fixture(params=[1, 3, 1000])
def rows_at_a_time(request, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", request.param * VOCAB * 4)
    return request.param


@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_values_and_gradients_are_those_of_the_full_logits(rows_at_a_time, count):
    hidden, head, targets, weights = inputs(count)
    terms = F.cross_entropy(hidden @ head.T, targets, reduction="none")
    (3 * (weights * terms).sum()).backward()
    expected = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    loss, losses = ChunkedCrossEntropy.apply(hidden, head, targets, weights)
    (3 * loss).backward()
    for mine, other in (
        (losses, terms),
        (loss, (weights * terms).sum()),
        (hidden.grad, expected[0]),
        (head.grad, expected[1]),
    ):
        assert mine.shape == other.shape
        assert (mine - other).norm() <= 1e-6 * other.norm()


def test_a_frozen_head_or_frozen_hidden_states_get_no_gradient():
    hidden, head, targets, weights = inputs(5)
    ChunkedCrossEntropy.apply(hidden, head.detach(), targets, weights)[0].backward()
    assert hidden.grad is not None
    assert head.grad is None
    hidden, head, targets, weights = inputs(5)
    ChunkedCrossEntropy.apply(hidden.detach(), head, targets, weights)[0].backward()
    assert hidden.grad is None
    assert head.grad is not None


def test_bf16_is_close_and_its_gradients_are_fp32():
    hidden, head, targets, weights = inputs(12)
    with torch.autocast("cpu", torch.bfloat16):
        loss, losses = ChunkedCrossEntropy.apply(hidden, head, targets, weights)
    loss.backward()
    terms = F.cross_entropy(hidden @ head.T, targets, reduction="none")
    assert losses.dtype == hidden.grad.dtype == head.grad.dtype == torch.float32
    torch.testing.assert_close(losses, terms.detach(), rtol=0.03, atol=0.05)


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def test_the_full_logits_never_exist(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * VOCAB * 4)
    hidden, head, targets, weights = inputs(400)
    with Largest() as largest:
        ChunkedCrossEntropy.apply(hidden, head, targets, weights)[0].backward()
    assert largest.numel == max(400 * WIDTH, VOCAB * WIDTH, 4 * VOCAB)
    assert largest.numel < 400 * VOCAB
