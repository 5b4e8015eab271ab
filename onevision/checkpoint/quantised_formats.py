"""Integers, scales and zero points as files hold them -> weights [N, K], exactly.

int-quantized   weight int8 [N, K], weight_scale [N, 1]
pack-quantized  weight_packed int32 [N, K * bits / 32], weight_scale [N, G], weight_shape (N, K);
                perhaps weight_zero_point int32 [N * bits / 32, G], weight_g_idx [K]
awq             qweight int32 [K, N / 8], qzeros int32 [G, N / 8], scales [G, N]
gptq, gptq_v2   qweight int32 [K * bits / 32, N], qzeros int32 [G, N * bits / 32], scales [G, N],
                g_idx [K]

G are the groups of inputs that share a scale. Words of 32 bits hold the first number in their
lowest bits; AWQ's hold eight columns in the order 0 2 4 6 1 3 5 7. The integers of compressed-
tensors are shifted by half of their range. GPTQ's first version stores zero points minus one. The
product of a difference of integers and a scale is exact in fp32, and rounded once to the type of
the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from onevision.accelerate.int4 import GROUP, OUTPUTS
from onevision.checkpoint.files import DTYPES, StoredTensor
from onevision.checkpoint.quantised_schemes import Scheme
from onevision.errors import CheckpointError

WORD_BITS = 32
# The place of each of eight columns among the numbers of one of AWQ's words.
AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
Parts = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class QuantisedTensor(StoredTensor):
    """A weight [N, K] that is stored as integers and scales; `dtype` is the type it is read in."""

    parts: Mapping[str, StoredTensor]  # by the ends of their names
    scheme: Scheme

    def read(self) -> Tensor:
        """Returns the weight, multiplied out. Raises CheckpointError."""
        assert self.change is None, "adapters are refused"
        return self._decode().dequantise().to(DTYPES[self.dtype])

    def read_int8(self) -> tuple[Tensor, Tensor]:
        """Returns int8 [N, K], mapped from its file, and the scale [N] in fp32.

        Only for weights of `int-quantized` files. Raises CheckpointError.
        """
        assert self.scheme.has_int8_activations
        parts = self._read_parts()
        return parts["weight"], parts["weight_scale"].float().flatten()

    @property
    def fits_int4(self) -> bool:
        """Whether `Int4Linear` holds it: 4 bits, in groups of 64 inputs or more, in order."""
        scheme, (outputs, inputs) = self.scheme, self.shape
        is_whole = not (inputs % GROUP or (scheme.group or inputs) % GROUP or outputs % OUTPUTS)
        return scheme.bits == 4 and not scheme.ordered and is_whole

    def read_int4(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the numbers uint8 [N, K], and the scale and middle of 64 inputs, bf16 [N, K/64].

        They are those of `Int4Linear`: (q - zero) s = s (q - 8) + s (8 - zero). Integers stay as
        they are, scales and middles are rounded once. Only if `fits_int4`. Raises CheckpointError.
        """
        assert self.fits_int4
        decoded = self._decode()
        groups = decoded.groups[::GROUP]
        scale = decoded.scales[:, groups]
        middle = scale * (8 - decoded.zeros[:, groups])
        return decoded.numbers.to(torch.uint8).contiguous(), scale.bfloat16(), middle.bfloat16()

    def _decode(self) -> "Decoded":
        return DECODE[self.scheme.storage](self._read_parts(), self.scheme, self.shape)

    def _read_parts(self) -> dict[str, Tensor]:
        parts = {end: stored.read() for end, stored in self.parts.items()}
        for end in ("weight_scale", "scales"):
            if end in parts and not _is_scale(parts[end]):
                raise CheckpointError(
                    f"{self.parts[end].path}: tensor {self.parts[end].name} holds scales that are "
                    "zero, negative or not finite; download or copy it again"
                )
        return parts


@dataclass(frozen=True, kw_only=True)
class RoundedWeight:
    """A weight of a linear layer as integers and scales, without zero points."""

    numbers: Tensor  # int8 [N, K]
    scale: Tensor  # fp32 [N, G]: one for every K / G inputs

    def dequantise(self) -> Tensor:
        """Returns the weight that the integers stand for, in fp32 [N, K]."""
        groups = self.numbers.float().unflatten(1, (self.scale.shape[1], -1))
        return (groups * self.scale[:, :, None]).flatten(1)

    def encode(self, scheme: Scheme) -> dict[str, Tensor]:
        """Returns the tensors that compressed-tensors' formats hold, by the ends of their names."""
        if scheme.has_int8_activations:
            return {"weight": self.numbers, "weight_scale": self.scale}
        middle = 1 << scheme.bits - 1
        return {
            "weight_packed": pack(self.numbers.int() + middle, bits=scheme.bits),
            "weight_scale": self.scale.bfloat16(),
            "weight_shape": torch.tensor(self.numbers.shape),
        }


def unpack(words: Tensor, *, bits: int) -> Tensor:
    """Splits int32 `words` [R, W] into the numbers they hold, 0 or more -> [R, W * 32 / bits]."""
    shifts = torch.arange(0, WORD_BITS, bits, dtype=torch.int32)
    return (words[:, :, None] >> shifts & (1 << bits) - 1).flatten(1)


def pack(numbers: Tensor, *, bits: int) -> Tensor:
    """Packs `numbers` [R, C], 0 or more, as `unpack` splits them -> int32 [R, C * bits / 32].

    The last word of a row is filled up with zeros.
    """
    each = WORD_BITS // bits
    rows = torch.nn.functional.pad(numbers.long(), (0, -numbers.shape[1] % each))
    shifts = torch.arange(0, WORD_BITS, bits)
    words = (rows.unflatten(1, (-1, each)) << shifts).sum(2)  # below 2^32
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A weight [N, K] as w = (number - zero) * scale, with a zero and a scale for every group."""

    numbers: Tensor  # integers [N, K]
    zeros: Tensor  # integers [N, G]
    scales: Tensor  # fp32 [N, G]
    groups: Tensor  # int64 [K]: the group of each input

    def dequantise(self) -> Tensor:
        """Returns the weight in fp32 [N, K]."""
        numbers = self.numbers - self._by_input(self.zeros)
        return (numbers * self._by_input(self.scales)).contiguous()

    def _by_input(self, values: Tensor) -> Tensor:
        """Returns the values [N, G] of groups for each input: [N, K], or [N, 1] for all."""
        return values if values.shape[1] == 1 else values[:, self.groups]


def _decode_int8(parts: Parts, scheme: Scheme, shape: tuple[int, ...]) -> Decoded:
    scales = parts["weight_scale"].float().view(shape[0], 1)
    zeros = torch.zeros(scales.shape, dtype=torch.int8)
    groups = _groups(None, scheme, shape[1])
    return Decoded(numbers=parts["weight"], zeros=zeros, scales=scales, groups=groups)


def _decode_packed(parts: Parts, scheme: Scheme, shape: tuple[int, ...]) -> Decoded:
    outputs, inputs = shape
    scales = parts["weight_scale"].float()
    if "weight_zero_point" in parts:  # packed along the outputs
        zeros = unpack(parts["weight_zero_point"].T, bits=scheme.bits).T[:outputs]
    else:
        zeros = torch.full(scales.shape, 1 << scheme.bits - 1, dtype=torch.int32)
    return Decoded(
        numbers=unpack(parts["weight_packed"], bits=scheme.bits)[:, :inputs],
        zeros=zeros,
        scales=scales,
        groups=_groups(parts.get("weight_g_idx"), scheme, inputs),
    )


def _decode_awq(parts: Parts, scheme: Scheme, shape: tuple[int, ...]) -> Decoded:
    numbers, zeros = (_in_order(unpack(parts[end], bits=4)) for end in ("qweight", "qzeros"))
    groups = _groups(None, scheme, shape[1])
    return Decoded(
        numbers=numbers.T, zeros=zeros.T, scales=parts["scales"].float().T, groups=groups
    )


def _decode_gptq(parts: Parts, scheme: Scheme, shape: tuple[int, ...]) -> Decoded:
    numbers = unpack(parts["qweight"].T, bits=scheme.bits)  # [N, K]
    zeros = unpack(parts["qzeros"], bits=scheme.bits)  # [G, N]
    if scheme.storage == "gptq":  # 0 is stored as the largest number
        zeros = zeros + 1 & (1 << scheme.bits) - 1
    groups = _groups(parts.get("g_idx"), scheme, shape[1])
    return Decoded(numbers=numbers, zeros=zeros.T, scales=parts["scales"].float().T, groups=groups)


DECODE = {
    "int-quantized": _decode_int8,
    "pack-quantized": _decode_packed,
    "awq": _decode_awq,
    "gptq": _decode_gptq,
    "gptq_v2": _decode_gptq,
}


def _groups(stated: Tensor | None, scheme: Scheme, inputs: int) -> Tensor:
    """Returns the group of each input [K]: as stated, or one after the other."""
    if stated is not None:
        return stated.long()
    return torch.arange(inputs) // (scheme.group or inputs)


def _in_order(numbers: Tensor) -> Tensor:
    """Puts the columns of AWQ's words in order: [R, C] -> [R, C]."""
    return numbers.unflatten(1, (-1, len(AWQ_PLACES)))[:, :, list(AWQ_PLACES)].flatten(1)


def _is_scale(scale: Tensor) -> bool:
    low, high = torch.aminmax(scale.float())
    return bool(low > 0) and bool(torch.isfinite(high))
