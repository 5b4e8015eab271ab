"""Linear layers with 4-bit weights: rows [R, K] in bf16, times weights of half a byte -> [R, N].

A scale and a middle for every 64 inputs of a channel: w ~ scale * (q - 8) + middle, q in 0 ... 15,
from the smallest weight to the largest.
"""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Inputs that share a scale; ATen's kernel requires a multiple of OUTPUTS outputs.
GROUP, OUTPUTS = 64, 16
# Outputs of a block in the layout of ATen's kernel with AVX-512 and with AVX2, how many outputs are
# unpacked together, and the most rows for which the kernel is faster.
BLOCKS, OUTPUTS_AT_ONCE, FEW_ROWS = (64, 32), 896, 16


def round_groups(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the numbers uint8 [N, K] nearest to `weight` [N, K], K a multiple of 64.

    Then scale and middle of each group, bf16 [N, K/64].
    """
    groups = weight.float().unflatten(1, (-1, GROUP))  # [N, K/64, 64]
    least, greatest = groups.aminmax(dim=-1)
    scale = ((greatest - least) / 15).clamp(min=1e-8).to(torch.bfloat16)
    middle = (least + 8 * scale.float()).to(torch.bfloat16)
    steps = (groups - middle.float()[..., None]) / scale.float()[..., None] + 8
    return steps.round().clamp(0, 15).to(torch.uint8).flatten(1), scale, middle


class Int4Linear(nn.Module):
    """A linear layer with 4-bit weights in plain tensors: `numbers` 0 ... 15, a byte each."""

    numbers: Tensor  # uint8 [N, K]
    scale: Tensor  # bf16 [N, K/64]
    middle: Tensor  # bf16 [N, K/64]
    bias: Tensor | None  # [N]

    def __init__(
        self, *, numbers: Tensor, scale: Tensor, middle: Tensor, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = numbers.shape
        self.register_buffer("numbers", numbers)
        self.register_buffer("scale", scale)
        self.register_buffer("middle", middle)
        self.register_buffer("bias", None if bias is None else bias.detach())

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        """Whether ATen's kernel takes a layer of this shape."""
        return not linear.in_features % GROUP and not linear.out_features % OUTPUTS

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """Quantises a plain layer that `fits`."""
        numbers, scale, middle = round_groups(linear.weight.detach())
        return cls(numbers=numbers, scale=scale, middle=middle, bias=linear.bias)

    @classmethod
    def concatenate(cls, layers: Sequence["Int4Linear"]) -> Self:
        """Returns one layer that gives the outputs of all `layers`, one after the other."""
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return cls(
            numbers=torch.cat([layer.numbers for layer in layers]),
            scale=torch.cat([layer.scale for layer in layers]),
            middle=torch.cat([layer.middle for layer in layers]),
            bias=torch.cat(biases) if biases else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N], in the type of `x`."""
        steps = self.numbers.unflatten(1, (-1, GROUP)).float() - 8
        weight = (steps * self.scale[..., None] + self.middle[..., None]).flatten(1)
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), weight, bias).to(x.dtype)


class PackedInt4Linear(nn.Module):
    """An `Int4Linear` whose weights have the layout of ATen's kernel, half a byte each.

    The kernel reads them once a row, so for many rows they are unpacked, some outputs at a time,
    and multiplied as such.
    """

    def __init__(self, layer: Int4Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("bias", layer.bias)
        numbers = layer.numbers.to(torch.int32)
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
        scales = torch.stack([layer.scale, layer.middle], dim=-1).transpose(0, 1)
        self.scales = scales.contiguous()  # [K/64, N, 2]
        # The layout is ATen's own and depends on the processor: it is tried, not assumed.
        self.block = self._find_block(layer.numbers)

    def _find_block(self, numbers: Tensor) -> int | None:
        """Returns the outputs of a block in which the packed `numbers` [N, K] lie, if in any."""
        for size in BLOCKS:
            first = numbers[:size].T[None]
            if not self.out_features % size and torch.equal(self._unpack(slice(0, 1), size), first):
                return size
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N], in the type of `x`; the kernel takes bf16."""
        rows = x.flatten(0, -2)
        if len(rows) > FEW_ROWS and self.block is not None:
            y = self._multiply_many(rows, self.block)
        else:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(
                rows.to(torch.bfloat16), self.packed, GROUP, self.scales
            ).to(x.dtype)
        if self.bias is not None:
            y += self.bias
        return y.unflatten(0, x.shape[:-1])

    def _multiply_many(self, rows: Tensor, size: int) -> Tensor:
        y = rows.new_empty(len(rows), self.out_features)
        at_once = OUTPUTS_AT_ONCE // size
        for begin in range(0, self.out_features // size, at_once):
            blocks = slice(begin, begin + at_once)
            products = rows @ self._dequantise(blocks, size, rows.dtype)  # [b, R, size]
            own = slice(blocks.start * size, blocks.stop * size)
            y[:, own].unflatten(1, (-1, size)).copy_(products.transpose(0, 1))
        return y

    def _dequantise(self, blocks: slice, size: int, dtype: torch.dtype) -> Tensor:
        """Returns the weights of some blocks of outputs [b, K, size]."""
        steps = self._unpack(blocks, size).to(dtype).unflatten(1, (-1, GROUP))
        own = slice(blocks.start * size, blocks.stop * size)
        scales = self.scales[:, own].unflatten(1, (-1, size)).transpose(0, 1)
        scale, middle = scales[:, :, None].unbind(-1)  # [b, K/64, 1, size] each
        return steps.sub_(8).mul_(scale).add_(middle).flatten(1, 2)

    def _unpack(self, blocks: slice, size: int) -> Tensor:
        """Returns the numbers of some blocks of outputs, uint8 [b, K, size]."""
        pairs = self.packed.view(-1, self.in_features, size // 2)[blocks]
        return torch.cat([pairs & 15, pairs >> 4], dim=-1)
