"""Decoder -> a copy with weights in 8 or 4 bits: a decode step, which reads all, reads less.

int8: symmetric, one scale per output channel: w ~ scale * q, q in -127 ... 127, with
scale = max |w| / 127.
int4: a scale and a middle for every 64 inputs of a channel: w ~ scale * (q - 8) + middle, q in
0 ... 15, from the smallest weight to the largest. The head, where errors show at once, has 8 bits.

Prefill keeps the original weights: products of many rows are limited by arithmetic, and these
kernels are slower at that on a CPU. The kernels take rows in bf16; the rows of an fp32 model, for a
processor that does not multiply in bf16, are rounded to it.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from onevision.accelerate.fused import fuse
from onevision.errors import InputError
from onevision.model.decoder import Decoder

# Inputs that share a scale; ATen's kernel requires a multiple of OUTPUTS outputs.
GROUP, OUTPUTS = 64, 16
DTYPES = (torch.bfloat16, torch.float32)


class WeightOnlyLinear(nn.Module):
    """A linear layer with quantised weights, through one of ATen's own kernels."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N]."""
        rows = self.multiply(x.flatten(0, -2).to(torch.bfloat16)).to(x.dtype)
        if self.bias is not None:
            rows = rows + self.bias
        return rows.unflatten(0, x.shape[:-1])

    def multiply(self, rows: Tensor) -> Tensor:
        """Multiplies `rows` [R, K] in bf16 by the weights -> [R, N]."""
        raise NotImplementedError


class Int8WeightOnlyLinear(WeightOnlyLinear):
    """8-bit weights [N, K], a scale per output channel."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(torch.bfloat16))

    def multiply(self, rows: Tensor) -> Tensor:
        """Multiplies `rows` [R, K] in bf16 by the weights -> [R, N]."""
        return torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scale)


class Int4WeightOnlyLinear(WeightOnlyLinear):
    """4-bit weights, packed; a scale and a middle for each group of inputs."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
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

    def multiply(self, rows: Tensor) -> Tensor:
        """Multiplies `rows` [R, K] in bf16 by the weights -> [R, N]."""
        return torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.weight, GROUP, self.scales)


QUANTIZED: Mapping[str, type[WeightOnlyLinear]] = MappingProxyType(
    {"int8": Int8WeightOnlyLinear, "int4": Int4WeightOnlyLinear}
)


def check_kind(kind: str | None) -> None:
    """Raises InputError unless `kind` is a key of `QUANTIZED`, or None."""
    if kind is not None and kind not in QUANTIZED:
        raise InputError(
            f"quantize is {kind!r}; expected {' or '.join(map(repr, QUANTIZED))}, or nothing"
        )


def quantized_copy(decoder: Decoder, kind: str) -> Decoder:
    """Returns a copy of a plain `decoder` whose linear layers are fused and quantised.

    `kind` is a key of `QUANTIZED`. Everything else is shared, not copied. Raises InputError if the
    device or the type is not supported.
    """
    if decoder.device.type != "cpu" or decoder.dtype not in DTYPES:
        raise InputError(
            f"quantize={kind!r} is for bfloat16 or float32 on CPU; this model is {decoder.dtype} "
            f"on {decoder.device.type}: load it with dtype='auto', device='cpu'"
        )
    shared = {id(p): p for p in decoder.parameters()}
    quantized = copy.deepcopy(decoder, memo=cast("dict[int, object]", shared))
    for block in quantized.blocks:  # block by block: a fused weight is freed once it is quantised
        fuse(block)
        _quantize_linears(block, kind)
    quantized.add_module("head", Int8WeightOnlyLinear(quantized.head))
    return quantized


def _quantize_linears(module: nn.Module, kind: str) -> None:
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear:
                linear = QUANTIZED[kind] if _fits_groups(child) else Int8WeightOnlyLinear
                part.add_module(name, linear(child))


def _fits_groups(linear: nn.Linear) -> bool:
    """Whether the kernel for 4 bits takes a layer of this shape; others have 8 bits."""
    return not linear.in_features % GROUP and not linear.out_features % OUTPUTS
