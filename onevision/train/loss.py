"""A network and a batch -> next-token cross-entropy at labelled positions.

The head runs on labelled positions alone, a chunk of them at a time, and a chunk's gradients are
computed while its logits exist. So the logits [positions, vocab] never exist all at once, and
nothing is computed twice.
"""

from typing import Any

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.model.llava import LlavaNetwork

# Bytes of logits that exist at a time, in fp32.
CHUNK_BYTES = 64 * 2**20


def weighted_loss(
    network: LlavaNetwork,
    batch: TrainingBatch,
    weights: Tensor,
    *,
    visual_tokens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the sum of weight times cross-entropy over labelled positions, and each term.

    `weights` [L] stands beside `batch.targets`. The terms [L] are unweighted and carry no gradient.
    `visual_tokens` [V, D] are those of the batch, if its crops are encoded already.
    """
    if visual_tokens is None:
        visual_tokens = network.encode(batch.pixel_values, batch.layouts)
    x = network.place(batch.input_ids, batch.visual_mask, visual_tokens)
    hidden = network.run(x, batch.position_ids, mask=batch.mask).flatten(0, 1)[batch.sources]
    head = network.language_model.head.weight
    weights = weights.to(hidden.device)
    return ChunkedCrossEntropy.apply(hidden, head, batch.targets, weights)  # type: ignore


class ChunkedCrossEntropy(torch.autograd.Function):
    """Computes sum(weight * -log softmax(hidden @ head.T)[target]), chunk by chunk.

    d loss / d logits = weight * (softmax - onehot(target)).
    """

    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Takes `hidden` [L, D], `head` [V, D], `targets` [L], `weights` [L]."""
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            return _forward(ctx, hidden, head, targets, weights, low or hidden.dtype)

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, grad: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Scales the gradients that the forward pass has computed."""
        to_hidden, to_head = ctx.saved_tensors
        hidden = grad * to_hidden if ctx.needs_input_grad[0] else None
        head = to_head.mul_(grad) if ctx.needs_input_grad[1] else None
        return hidden, head, None, None


def _forward(
    ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    low_hidden, low_head = hidden.detach().to(dtype), head.detach().to(dtype)
    losses = torch.empty(len(targets), device=hidden.device)
    to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else hidden.new_empty(0)
    to_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else head.new_empty(0)
    size = max(1, CHUNK_BYTES // (4 * len(head)))
    for begin in range(0, len(targets), size):
        chunk = slice(begin, begin + size)
        logits = (low_hidden[chunk] @ low_head.T).log_softmax(-1, dtype=torch.float32)
        rows = torch.arange(len(logits), device=logits.device)
        losses[chunk] = -logits[rows, targets[chunk]]
        logits.exp_()
        logits[rows, targets[chunk]] -= 1
        to_logits = logits.mul_(weights[chunk, None]).to(dtype)
        if ctx.needs_input_grad[0]:
            to_hidden[chunk] = to_logits @ low_head
        if ctx.needs_input_grad[1]:
            to_head += to_logits.T @ low_hidden[chunk]
    ctx.save_for_backward(to_hidden, to_head)
    ctx.mark_non_differentiable(losses)
    return (losses * weights).sum(), losses
