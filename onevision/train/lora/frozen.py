"""Frozen linear layer -> the same layer in few bits: what all kinds of it have in common."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenLinear(nn.Module):
    """A linear layer whose weight is stored in a few tensors, and does not train."""

    # The names of those tensors, which are buffers.
    parts: ClassVar[tuple[str, ...]]

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.dtype = linear.weight.dtype  # of the layer that `dequantize` returns
        self.out_features, self.in_features = linear.weight.shape
        stored = self.quantise(linear.weight.detach())
        for name, tensor in zip(self.parts, stored, strict=True):
            self.register_buffer(name, tensor)
        self.bias = linear.bias

    @staticmethod
    def quantise(weight: Tensor) -> tuple[Tensor, ...]:
        """Returns the stored tensors of `weight` [out, in]; without memory if it has none."""
        raise NotImplementedError

    def multiply_out(self, dtype: torch.dtype) -> Tensor:
        """Returns the weight [out, in] that the stored tensors stand for."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., in] -> [..., out], in the dtype of autocast.

        Output and gradient are those of the weight that was multiplied out in that dtype.
        """
        return _Product.apply(in_dtype_of_autocast(x), self)

    def dequantize(self) -> nn.Linear:
        """Returns a plain frozen layer with the weight multiplied out."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self.multiply_out(self.dtype), requires_grad=False)
        linear.bias = self.bias
        return linear


def in_dtype_of_autocast(x: Tensor) -> Tensor:
    """Returns `x` as a plain linear layer would multiply it."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


class _Product(torch.autograd.Function):
    """x @ W.T + bias: W is multiplied out for each pass and dropped after it."""

    # Any: autograd's context. The base class takes any arguments, which no override does.
    @staticmethod
    # pyrefly: ignore[bad-override]
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        """Takes `x` [..., in]."""
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return F.linear(x, layer.multiply_out(x.dtype), bias)

    @staticmethod
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Takes the gradient [..., out] and returns that of x [..., in]."""
        return grad @ ctx.layer.multiply_out(grad.dtype), None
