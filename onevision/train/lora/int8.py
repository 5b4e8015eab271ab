"""Frozen linear layer -> the same layer with int8 weights, in about a quarter of fp32's memory.

Symmetric, with one scale per output row (absmax quantisation, arXiv 2208.07339, section 2): W is
about scale * Q with Q in -127..127. Gradients pass through to x; the weight does not train.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Int8FrozenLinear(nn.Module):
    """y = scale * (Q x) + bias, exact but for the rounding of W to Q."""

    weight: Tensor  # [out, in] int8
    scale: Tensor  # [out] fp32

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.dtype = linear.weight.dtype  # of the layer that `dequantize` returns
        quantised, scale = quantise(linear.weight.detach())
        self.register_buffer("weight", quantised)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., in] -> [..., out], in the dtype of autocast."""
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        y = _Product.apply(x, self.weight, self.scale)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dequantize(self) -> nn.Linear:
        """Returns a plain frozen layer with the weight multiplied out."""
        out_features, in_features = self.weight.shape
        linear = nn.Linear(in_features, out_features, bias=False, device="meta")
        weight = self.weight.float() * self.scale.float()[:, None]
        linear.weight = nn.Parameter(weight.to(self.dtype), requires_grad=False)
        linear.bias = self.bias
        return linear


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Q [out, in] int8 and scale [out] fp32 such that scale * Q is nearest to `weight`.

    A row of zeros has the scale 1.
    """
    largest = weight.float().abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127, 1.0)
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


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
