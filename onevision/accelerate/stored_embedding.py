"""An embedding that stays in its file: rows come to memory as they are looked up."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StoredEmbedding(nn.Module):
    """Rows in the type of their file, brought to `dtype` as they are looked up. For inference.

    Nothing is rounded where `dtype` is the wider one.
    """

    def __init__(self, weight: Tensor, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # No parameter and no buffer: it can neither be trained nor moved nor saved.
        self.rows = [weight]

    def forward(self, ids: Tensor) -> Tensor:
        """Look up `ids` [...] -> [..., D]."""
        return F.embedding(ids, self.rows[0]).to(self.dtype)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself: a copy would hold all rows."""
        return self
