"""Linear layers in 8-bit integers: rows [R, K], quantised as they come, times int8 weights [N, K].

Both are symmetric: w ~ scale * q with q in -127 ... 127, one scale per output channel; a row of
activations has a scale of its own, max |x| / 127, so that it depends on no other row. Products of
integers are exact; what is lost is lost in the rounding of the two.

Rows in two parts, each the rounding error of the one before, lose next to nothing: 15 bits. This is
quantisation of weights alone, by the same products.
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# From int8 rows [R, K] to their products [R, N], scaled by column, in a type.
Multiply = Callable[[Tensor, torch.dtype], Tensor]

# Steps of weights and of rows; of rows where a kernel adds two products of unsigned rows in 16 bits
# (127 * 127 * 2 < 2^15), as AVX2 does: 7 bits.
MOST, MOST_OF_7_BITS = 127, 63
# The least scale whose reciprocal is finite.
LEAST_SCALE = torch.finfo(torch.float32).tiny
# Numbers that are converted at a time, to stay in the cache.
NUMBERS_AT_ONCE = 2**20


def quantise_rows(
    x: Tensor, *, dtype: torch.dtype | None = None, most: int = MOST
) -> tuple[Tensor, Tensor]:
    """Returns int8 [R, K] and the scale [R] with which it is nearest to `x` [R, K].

    Absmax quantisation (arXiv 2208.07339, section 2), to -most ... `most`. The scale is of `dtype`,
    by default that of `x`: what is multiplied by it is then rounded once. A row of zeros has the
    scale 1.
    """
    dtype = dtype or x.dtype
    # On a CPU some rows at a time: pages of new memory cost more than the arithmetic.
    at_once = max(1, NUMBERS_AT_ONCE // x.shape[1])
    if len(x) <= at_once or x.device.type != "cpu":
        return _quantise(x, dtype=dtype, most=most)
    rows, scale = torch.empty(x.shape, dtype=torch.int8), torch.empty(len(x), dtype=dtype)
    for part in (slice(begin, begin + at_once) for begin in range(0, len(x), at_once)):
        rows[part], scale[part] = _quantise(x[part], dtype=dtype, most=most)
    return rows, scale


def _quantise(x: Tensor, *, dtype: torch.dtype, most: int) -> tuple[Tensor, Tensor]:
    # Few calls: for one row they take longer than the arithmetic.
    scale = scale_rows(x, dtype=dtype, most=most)
    steps = x.float() * scale.float().reciprocal()[:, None]
    return steps.round_().to(torch.int8), scale


def scale_rows(x: Tensor, *, dtype: torch.dtype, most: int) -> Tensor:
    """Returns the scale [R] of each row of `x` [R, K], as `quantise_rows` does."""
    scale = _largest(x).to(dtype) / most
    return scale.masked_fill_(scale < LEAST_SCALE, 1.0)  # NaN stays


def _largest(x: Tensor) -> Tensor:
    """Returns the largest magnitude [R] of each row of `x`, NaN if it has one."""
    if x.dtype == torch.bfloat16:  # as integers, magnitudes have the same order, compared faster
        return (x.view(torch.int16) & 0x7FFF).amax(1).view(torch.bfloat16)
    return x.abs().amax(1)


def multiply_rows(
    x: Tensor, multiply: Multiply, *, bias: Tensor | None, parts: int, most: int = MOST
) -> Tensor:
    """Transforms rows `x` [R, K] -> [R, N], in their type, through products of int8 rows.

    `multiply` takes int8 rows [R, K] to products [R, N], scaled by column, of a type; the rows of
    all `parts` come together, so that weights are read once.
    """
    if parts > 1:
        return _multiply_in_parts(x, multiply, bias=bias, parts=parts, most=most)
    rows, scale = quantise_rows(x, most=most)
    y, scale = multiply(rows, x.dtype), scale[:, None]
    return y.mul_(scale) if bias is None else torch.addcmul(bias, y, scale, out=y)


def _multiply_in_parts(
    x: Tensor, multiply: Multiply, *, bias: Tensor | None, parts: int, most: int
) -> Tensor:
    rest, rows, scales = x.float(), list[Tensor](), list[Tensor]()
    for _ in range(parts):
        own, scale = quantise_rows(rest, most=most)
        rest = rest - own * scale[:, None]
        rows.append(own)
        scales.append(scale)
    y = multiply(torch.cat(rows), torch.float32).mul_(torch.cat(scales)[:, None])
    y = y.unflatten(0, (parts, -1)).sum(0)
    if bias is not None:
        y += bias
    return y.to(x.dtype)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights [N, K], in plain tensors that a file can hold.

    Computes plainly, in fp32; `accelerate` replaces it by the fastest kernel of the same products.
    """

    weight: Tensor  # int8 [N, K]
    scale: Tensor  # fp32 [N]
    bias: Tensor | None  # [N]

    def __init__(
        self, *, weight: Tensor, scale: Tensor, bias: Tensor | None = None, parts: int = 1
    ) -> None:
        """Takes the tensors of a layer; rows are quantised in so many `parts`, 1 or 2."""
        super().__init__()
        assert weight.dtype == torch.int8
        assert scale.shape == weight.shape[:1]
        self.out_features, self.in_features = weight.shape
        self.parts = parts
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.float())
        # A buffer: oneDNN takes a slow path for what may need a gradient.
        self.register_buffer("bias", None if bias is None else bias.detach())

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, parts: int = 1) -> Self:
        """Quantises a plain layer."""
        weight, scale = quantise_rows(linear.weight.detach(), dtype=torch.float32)
        return cls(weight=weight, scale=scale, bias=linear.bias, parts=parts)

    @classmethod
    def from_quantized(cls, *, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Self:
        """Takes int8 `weight` [N, K], `scale` [N] and `bias` [N] as a file holds them."""
        return cls(weight=weight, scale=scale, bias=bias)

    @classmethod
    def concatenate(cls, layers: Sequence["Int8Linear"]) -> Self:
        """Returns one layer that gives the outputs of all `layers`, one after the other."""
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return cls(
            weight=torch.cat([layer.weight for layer in layers]),
            scale=torch.cat([layer.scale for layer in layers]),
            bias=torch.cat(biases) if biases else None,
            parts=layers[0].parts,
        )

    def forward(self, x: Tensor, *, most: int = MOST) -> Tensor:
        """Transforms `x` [..., K] -> [..., N], in the type of `x`; rows are -most ... `most`."""
        y = multiply_rows(
            x.flatten(0, -2), self._multiply, bias=self.bias, parts=self.parts, most=most
        )
        return y.unflatten(0, x.shape[:-1])

    def _multiply(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        rows = rows.float()
        at_once = max(1, NUMBERS_AT_ONCE // self.in_features)
        parts = [F.linear(rows, part.float()) for part in self.weight.split(at_once)]
        return torch.cat(parts, dim=-1).mul_(self.scale).to(dtype)
