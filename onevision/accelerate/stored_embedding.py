"""An embedding that stays mapped from its file: only rows that are looked up take memory."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StoredEmbedding(nn.Module):
    """Rows in the type of their file, converted to `dtype` as they are looked up, for inference.

    Nothing is rounded if `dtype` is the wider type.
    """

    def __init__(self, weight: Tensor, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # Neither a parameter nor a buffer: it cannot be trained, moved or saved.
        self.rows = [weight]

    def forward(self, ids: Tensor) -> Tensor:
        """Looks up `ids` [...] -> [..., D]."""
        return F.embedding(ids, self.rows[0]).to(self.dtype)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Returns itself: a copy would read all rows."""
        return self
