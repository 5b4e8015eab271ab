"""Kernels that multiply by int8 weights, by type of device: tables, fastest first.

The order is that of the speeds measured in docs/performance.md; `int8_packer.py` chooses from it.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.accelerate.int8 import MOST, MOST_OF_7_BITS, Int8Linear, multiply_rows, scale_rows
from onevision.accelerate.processor import has_amx, has_vnni
from onevision.accelerate.zentorch_library import find_zentorch_obstacle


class Product(Protocol):
    """Weights in the layout of a kernel."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """What it holds of the layer, to compare two by."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Transforms rows `x` [R, K] -> [R, N], as the layer that it was made of does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Int8Kernel:
    """A way to multiply by int8 weights."""

    name: str
    # Why it cannot be used here, or is slower than the next; None if it is worth a try.
    find_obstacle: Callable[[], str | None]
    # Packs the weights of a layer.
    pack: Callable[[Int8Linear], Product]
    # The most parts of a row that it takes, and the most steps of one, to either side.
    max_parts: int = 2
    most: int = MOST
    # Roundings of bf16 in which its products may differ from the plain layer's, which has two.
    roundings: int = 2


class OneDnnProduct:
    """By oneDNN, whose AMX and VNNI products of int8 are exact; rows are quantised before.

    VNNI multiplies unsigned rows: given signed ones, oneDNN takes a reference product, 10,000 times
    slower. So rows are moved up by 128, which oneDNN subtracts again.
    """

    def __init__(self, layer: Int8Linear) -> None:
        self.packed = torch.ops.onednn.qlinear_prepack(layer.weight, None)
        self.zero = 0 if has_amx() else 128
        self.scale, self.bias, self.parts = layer.scale, layer.bias, layer.parts
        self.zeros = torch.zeros(layer.out_features, dtype=torch.int32)

    @property
    def tensors(self) -> Sequence[Tensor]:
        return [self.packed.to_dense(), self.scale]

    def __call__(self, x: Tensor) -> Tensor:
        """Transforms rows `x` [R, K] -> [R, N]."""
        return multiply_rows(x, self._multiply, bias=self.bias, parts=self.parts)

    def _multiply(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        if self.zero:
            rows = rows.view(torch.uint8) ^ self.zero  # the bits of rows + 128
        return torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, self.zero, self.packed, self.scale, self.zeros,
            None, 1.0, 0, dtype, "none", [], "",
        )  # fmt: skip


class AtenProduct:
    """By `torch._int_mm`, from plain weights; fewer than `least_rows` are padded with zeros."""

    def __init__(self, layer: Int8Linear, *, least_rows: int = 1) -> None:
        self.tensors, self.least_rows = [layer.weight, layer.scale], least_rows
        self.bias, self.parts = layer.bias, layer.parts

    def __call__(self, x: Tensor) -> Tensor:
        """Transforms rows `x` [R, K] -> [R, N]."""
        return multiply_rows(x, self._multiply, bias=self.bias, parts=self.parts)

    def _multiply(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        weight, scale = self.tensors
        count = len(rows)
        if count < self.least_rows:
            rows = F.pad(rows, (0, 0, 0, self.least_rows - count))
        return torch._int_mm(rows, weight.T)[:count].float().mul_(scale).to(dtype)


class FbgemmProduct:
    """By FBGEMM, which multiplies unsigned rows: exact with rows of 7 bits, with VNNI or without.

    Rows are rounded as they are packed, around 64, in the same call.
    """

    def __init__(self, layer: Int8Linear) -> None:
        zeros = torch.zeros(layer.out_features, dtype=torch.int64)
        with _fbgemm_engine():
            weight = torch._make_per_channel_quantized_tensor(
                layer.weight, layer.scale.double(), zeros, 0
            )
            self.packed = torch.ops.quantized.linear_prepack(weight, None)
        self.bias, self.parts = layer.bias, layer.parts

    @property
    def tensors(self) -> Sequence[Tensor]:
        weight, _ = torch.ops.quantized.linear_unpack(self.packed)
        return [weight.int_repr(), weight.q_per_channel_scales().float()]

    def __call__(self, x: Tensor) -> Tensor:
        """Transforms rows `x` [R, K] -> [R, N]."""
        if self.parts > 1:
            return multiply_rows(
                x, self._multiply, bias=self.bias, parts=self.parts, most=MOST_OF_7_BITS
            )
        scale = scale_rows(x, dtype=x.dtype, most=MOST_OF_7_BITS)[:, None]
        y = self._multiply(x.float() * scale.float().reciprocal(), x.dtype)
        return y.mul_(scale) if self.bias is None else torch.addcmul(self.bias, y, scale, out=y)

    def _multiply(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows.float(), 1.0, MOST_OF_7_BITS + 1, self.packed
        ).to(dtype)


@contextmanager
def _fbgemm_engine() -> Iterator[None]:
    """Lets torch pack weights by FBGEMM: it has one setting for all, and here it is for moments.

    torch warns that its quantised tensors will go: once they have, this kernel is passed over.
    """
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        torch.backends.quantized.engine = "fbgemm"
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


class ZentorchProduct:
    """By zentorch, which quantises rows in the same call."""

    def __init__(self, layer: Int8Linear) -> None:
        packed = torch.ops.zentorch.zentorch_weight_prepack_for_dynamic_qlinear(layer.weight)
        self.tensors = [packed, layer.scale]
        self.bias = layer.bias

    def __call__(self, x: Tensor) -> Tensor:
        """Transforms rows `x` [R, K] -> [R, N]."""
        packed, scale = self.tensors
        return torch.ops.zentorch.zentorch_dynamic_qlinear(
            x, packed, scale, self.bias, is_weight_prepacked=True
        )


def _find_onednn_obstacle() -> str | None:
    if not torch.backends.mkldnn.is_available():
        return "torch was built without it"
    if torch.cpu.get_capabilities().get("architecture") == "x86_64" and not has_vnni():
        return "adds products in 16 bits on a processor without VNNI, which overflow"
    return None


def _find_fbgemm_obstacle() -> str | None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return "torch was built without it"
    return None


KERNELS: Sequence[Int8Kernel] = (
    Int8Kernel(
        name="zentorch",
        find_obstacle=find_zentorch_obstacle,
        pack=ZentorchProduct,
        max_parts=1,
        roundings=4,
    ),
    Int8Kernel(name="oneDNN", find_obstacle=_find_onednn_obstacle, pack=OneDnnProduct),
    Int8Kernel(
        name="FBGEMM", find_obstacle=_find_fbgemm_obstacle, pack=FbgemmProduct, most=MOST_OF_7_BITS
    ),
    Int8Kernel(name="ATen", find_obstacle=lambda: None, pack=AtenProduct),
)

# cuBLAS multiplies int8 rows by 17 or more, of which a tensor core takes 32 at a time.
CUBLAS_ROWS = 32
CUDA_KERNELS: Sequence[Int8Kernel] = (
    Int8Kernel(
        name="cuBLAS",
        find_obstacle=lambda: None,
        pack=partial(AtenProduct, least_rows=CUBLAS_ROWS),
    ),
)
KERNELS_OF: Mapping[str, Sequence[Int8Kernel]] = MappingProxyType(
    {"cpu": KERNELS, "cuda": CUDA_KERNELS}
)
