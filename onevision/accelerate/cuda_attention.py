"""Attention on a GPU: what `model.attention.attend` computes, packed samples in one kernel."""

from torch import Tensor

from onevision.batch import Blocks
from onevision.model.attention import attend


def attend_on_cuda(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | Blocks | None = None, is_causal: bool = False
) -> Tensor:
    """Attends with `q` [B, Q, S, K] to `k`, `v` [B, G, T, K] -> [B, Q, S, K].

    Arguments are those of `model.attention.attend`.
    """
    if not isinstance(mask, Blocks):
        return attend(q, k, v, mask=mask, is_causal=is_causal)
    from onevision.accelerate.cuda_packs import attend_to_pack  # imports torch's compiler

    return attend_to_pack(q, k, v, blocks=mask)
