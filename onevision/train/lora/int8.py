"""Frozen linear layer -> the same layer with int8 weights, in about a quarter of fp32's memory.

Symmetric, with one scale per output row (absmax quantisation, arXiv 2208.07339, section 2): W is
about scale * Q with Q in -127..127. Gradients pass through to x; the weight does not train.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.train.lora.frozen import FrozenLinear, in_dtype_of_autocast


class Int8FrozenLinear(FrozenLinear):
    """y = scale * (Q x) + bias, exact but for the rounding of W to Q."""

    parts = ("weight", "scale")
    weight: Tensor  # [out, in] int8
    scale: Tensor  # [out] fp32

    @staticmethod
    def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns Q [out, in] int8 and scale [out] fp32 such that scale * Q is nearest to `weight`.

        A row of zeros has the scale 1.
        """
        largest = weight.float().abs().amax(dim=1)
        scale = torch.where(largest > 0, largest / 127, 1.0)
        return (weight.float() / scale[:, None]).round().to(torch.int8), scale

    def multiply_out(self, dtype: torch.dtype) -> Tensor:
        """Returns scale * Q [out, in]."""
        return (self.weight.float() * self.scale.float()[:, None]).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., in] -> [..., out], in the dtype of autocast."""
        y = _Product.apply(in_dtype_of_autocast(x), self.weight, self.scale)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """scale * (x @ Q.T): keeps Q for the backward pass, not W, which would undo the saving."""

    # Any: autograd's context. The base class takes any arguments, which no override does.
    @staticmethod
    # pyrefly: ignore[bad-override]
    def forward(ctx: Any, x: Tensor, quantised: Tensor, scale: Tensor) -> Tensor:
        """Takes `x` [..., in], `quantised` [out, in], `scale` [out]."""
        ctx.save_for_backward(quantised, scale)
        y = F.linear(x, quantised.to(x.dtype))  # -127..127 are exact in bf16 too
        return (y * scale.float()).to(x.dtype)

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Takes the gradient [..., out] and returns that of x [..., in]."""
        quantised, scale = ctx.saved_tensors
        scaled = (grad * scale.float()).to(grad.dtype)
        return scaled @ quantised.to(grad.dtype), None, None
