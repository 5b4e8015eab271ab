"""One query of each of many sequences -> attention, with as few calls as there can be.

For decoding on a CPU, where a small model spends more on calls than on numbers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attend_rows(
    q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], *, window: int | None = None
) -> Tensor:
    """Attend with row i of `q` [Q, n, K] to `keys[i]`, `values[i]` [G, T_i, K] -> [Q, n, K].

    The bits are those of `attend_last` for each row alone: queries that share keys are the fused
    kernel's rows. A query sees no more than `window` positions back, itself included.
    """
    num_groups = keys[0].shape[0]
    rows = q.unflatten(0, (num_groups, -1)).movedim(2, 0).contiguous()  # [n, G, Q/G, K]
    mixed = [
        F.scaled_dot_product_attention(row, own_k[None], own_v[None])
        for row, own_k, own_v in zip(
            rows.split(1), _seen(keys, window), _seen(values, window), strict=True
        )
    ]
    return torch.cat(mixed).flatten(1, 2).transpose(0, 1)


def _seen(rows: Sequence[Tensor], window: int | None) -> Sequence[Tensor]:
    return rows if window is None else [row[:, max(0, row.shape[1] - window) :] for row in rows]
