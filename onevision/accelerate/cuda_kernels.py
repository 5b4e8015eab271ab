"""Parts of the decoder in fewer kernels, for inference on a GPU: launching each takes host time.

Each agrees with the plain form to one rounding of the result, since it rounds once less itself.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from onevision.model.decoder import RMSNorm


class FusedRMSNorm(nn.Module):
    """x / rms(x) * weight in one kernel in place of nine."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last axis of `x` [..., D] -> [..., D]."""
        if self.weight.dim() == 1:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.rms_norm(x, x.shape[-1:], None, self.eps) * self.weight  # a weight per head


def fused_rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates `x` [B, heads, S, K] by position, as `rotate` does: 3 kernels in place of 5."""
    cos, sin = rotation
    rotated, half = x * cos, x.shape[-1] // 2
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return rotated


def fuse_norms(module: nn.Module) -> None:
    """Replaces every RMSNorm inside `module`."""
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, RMSNorm):
                part.add_module(name, FusedRMSNorm(child))
