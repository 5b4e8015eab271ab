"""Weights in 8 or 4 bits for decoding: a step there reads every weight once, and less is read.

int8: symmetric, one scale an output channel: w ~ scale * q, q in -127 ... 127, with
scale = max |w| / 127.
int4: a scale and a middle for every 64 inputs of a channel: w ~ scale * (q - 8) + middle, q in
0 ... 15, from the least of them to the greatest. The head, where errors show at once, has 8 bits.

Prompts are read with the weights as they were: for many rows at once products are bound by
arithmetic, and these kernels on a CPU are slower there. The kernels take rows in bf16; a model in
fp32, for a processor that does not multiply in bf16, has its rows rounded to it.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from onevision.accelerate.fused import drop_joined
from onevision.errors import InputError
from onevision.model.decoder import Decoder

# Inputs that share a scale, and what ATen's kernel asks of the number of outputs.
GROUP, OUTPUTS = 64, 16
DTYPES = (torch.bfloat16, torch.float32)


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights [N, K], through ATen's own kernel."""

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
        rows = x.flatten(0, -2).to(torch.bfloat16)
        rows = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scale).to(x.dtype)
        if self.bias is not None:
            rows = rows + self.bias
        return rows.unflatten(0, x.shape[:-1])


class Int4Linear(nn.Module):
    """A linear layer of 4-bit weights, through ATen's own kernel."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        groups = linear.weight.detach().float().unflatten(1, (-1, GROUP))  # [N, K/64, 64]
        least, greatest = groups.aminmax(dim=-1)
        scale = ((greatest - least) / 15).clamp(min=1e-8).to(torch.bfloat16)
        middle = (least + 8 * scale.float()).to(torch.bfloat16)
        steps = (groups - middle.float()[..., None]) / scale.float()[..., None] + 8
        numbers = steps.round().clamp(0, 15).to(torch.int32).flatten(1)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
        self.register_buffer("weight", packed)
        scales = torch.stack([scale, middle], dim=-1).transpose(0, 1)
        self.register_buffer("scales", scales.contiguous())  # [K/64, N, 2]
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [..., K] -> [..., N]."""
        rows = x.flatten(0, -2).to(torch.bfloat16)
        rows = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.weight, GROUP, self.scales).to(
            x.dtype
        )
        if self.bias is not None:
            rows = rows + self.bias
        return rows.unflatten(0, x.shape[:-1])


KINDS: Mapping[str, type[nn.Module]] = MappingProxyType({"int8": Int8Linear, "int4": Int4Linear})


def quantized_copy(decoder: Decoder, kind: str) -> Decoder:
    """Return a decoder of the same weights whose linear layers are in fewer bits.

    `kind` is one of `KINDS`. Everything else is shared, not copied. Raises InputError where that is
    not to be had.
    """
    if decoder.device.type != "cpu" or decoder.dtype not in DTYPES:
        raise InputError(
            f"quantize={kind!r} is for bfloat16 or float32 on CPU; this model is {decoder.dtype} "
            f"on {decoder.device.type}: load it with dtype='auto', device='cpu'"
        )
    shared = {id(p): p for p in decoder.parameters()}
    quantized = copy.deepcopy(decoder, memo=cast("dict[int, object]", shared))
    drop_joined(quantized)
    for module in list(quantized.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                own = KINDS[kind] if fits_4_bits(child) and name != "head" else Int8Linear
                setattr(module, name, own(child))
    return quantized


def fits_4_bits(linear: nn.Linear) -> bool:
    """Whether the kernel for 4 bits takes a layer of this shape."""
    return not linear.in_features % GROUP and not linear.out_features % OUTPUTS
