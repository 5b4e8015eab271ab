"""Weights in 8 bits for decoding: a step there reads every weight once, and half as much is read.

Symmetric, one scale an output channel: w ~ scale * q with q in -127 ... 127, scale = max |w| / 127.
Prompts are read with the weights as they were: for many rows at once products are bound by
arithmetic, and 8-bit kernels on a CPU are slower there.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from onevision.errors import InputError
from onevision.model.decoder import Decoder
from onevision.model.fuse import drop_joined


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights [N, K] for activations in bf16, through ATen's own kernel."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        quantized = (weight / scale[:, None]).round().to(torch.int8)
        self.register_buffer("weight", quantized)
        self.register_buffer("scale", scale.to(torch.bfloat16))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [..., K] -> [..., N]."""
        rows = x.flatten(0, -2)
        rows = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scale)
        if self.bias is not None:
            rows = rows + self.bias
        return rows.unflatten(0, x.shape[:-1])


def int8_copy(decoder: Decoder) -> Decoder:
    """Return a decoder of the same weights whose linear layers are in 8 bits.

    Everything else is shared, not copied. Raises InputError where 8 bits are not to be had.
    """
    weight = decoder.embedding.weight
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        raise InputError(
            f"quantize='int8' is for bfloat16 on CPU; this model is {weight.dtype} on "
            f"{weight.device.type}: load it with dtype='bfloat16', device='cpu'"
        )
    shared = {id(p): p for p in decoder.parameters()}
    quantized = copy.deepcopy(decoder, memo=cast("dict[int, object]", shared))
    drop_joined(quantized)
    for module in list(quantized.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child))
    return quantized
