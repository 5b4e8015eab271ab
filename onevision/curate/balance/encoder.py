"""Texts -> unit vectors, by any model that our engine loads: the mean of its last hidden states.

A causal model's hidden states share a large common direction, so vectors are compared after the
mean of the concepts is taken off.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from onevision.generate.answer import Model

MAX_TOKENS = 64
BATCH = 32


class TextEncoder:
    """Encodes texts by a model's language model; the first tokens of long ones."""

    def __init__(self, model: Model) -> None:
        self._network, self._tokenizer = model.network, model.processor.tokenizer

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns vectors [N, D], not normed."""
        found = [self._encode(batch) for batch in _batches(texts)]
        return np.concatenate(found) if found else np.empty((0, 0), np.float32)

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        ids = [list(self._tokenizer.encode(text).ids)[:MAX_TOKENS] or [0] for text in texts]
        length = max(map(len, ids))
        rows = torch.tensor([one + [0] * (length - len(one)) for one in ids])  # [B, S]
        lengths = torch.tensor([len(one) for one in ids])
        decoder = self._network.language_model
        hidden = self._network.run(decoder.embedding(rows.to(decoder.device)))  # [B, S, D]
        # What is padded comes after, where no real token looks.
        real = (torch.arange(length) < lengths[:, None]).to(hidden)[..., None]  # [B, S, 1]
        return ((hidden * real).sum(1) / real.sum(1)).float().cpu().numpy()


def normed(vectors: NDArray[np.float32], *, centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors [N, D] of length 1 about `centre` [D]."""
    moved = vectors - centre
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return moved / np.maximum(length, np.finfo(np.float32).tiny)


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (texts[begin : begin + BATCH] for begin in range(0, len(texts), BATCH))
