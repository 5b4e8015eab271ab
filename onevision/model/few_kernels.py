"""Parts of the decoder in fewer kernels, for inference on a GPU, whose host launches them slowly.

Each agrees with what it stands for to one rounding of the result, having rounded once less itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def launches_are_dear(x: Tensor) -> bool:
    """Whether `x` is on a GPU, in inference."""
    return x.is_cuda and not torch.is_grad_enabled()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis of `x` [..., D] and multiply by `weight` [D]: one kernel for nine."""
    return F.rms_norm(x, weight.shape, weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `x` [B, heads, S, K] by position; pairs are (i, i + K/2): three kernels for five."""
    rotated, half = x * cos, x.shape[-1] // 2
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return rotated
