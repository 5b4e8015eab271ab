"""Hidden states -> the loss of a batch: next-token cross-entropy where a label asks for it."""

import torch.nn.functional as F
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.model.llava import LlavaNetwork


def next_token_loss(network: LlavaNetwork, batch: TrainingBatch) -> Tensor:
    """Return the mean cross-entropy over labelled positions, in fp32.

    The head runs on those positions alone; logits of the whole batch never exist.
    """
    visual_tokens = network.encode(batch.pixel_values, batch.layouts)
    x = network.place(batch.input_ids, batch.visual_mask, visual_tokens)
    hidden = network.run(x, batch.position_ids, mask=batch.mask)
    logits = network.head(hidden.flatten(0, 1)[batch.sources])  # [L, vocab]
    return F.cross_entropy(logits.float(), batch.targets)
