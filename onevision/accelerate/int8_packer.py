"""An `Int8Linear` -> the same layer in the fastest kernel that multiplies like it here.

Kernels are tried in the order of their table. Each must give, for a layer of every shape of the
network, packed as it will be used, the products of the plain layer, for one row, a few and many,
and for a row the same bits among others as alone. One that does not, or takes a reference product,
is passed over for that shape, and the reason is kept.

Where the user's cache says that a kernel has passed its test here before, a few rows and outputs
are compared, at every load; one that has failed there is not tried.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.int8_kernels import KERNELS, Int8Kernel, Product
from onevision.accelerate.kernel_tests import KernelTests

# A test: the most rows of a product, and the most numbers it may have; how many rows are compared.
MANY_ROWS, MOST_PRODUCTS, COMPARED_ROWS = 729, 2**23, 24
FEW_ROWS = 5
# How far from the plain layer's products others may be, as a share of the row's largest: two
# roundings of bf16, or as many as a kernel needs.
ROUNDING, ROUNDINGS = 2**-8, 2
# How many times as long as the plain layer a kernel may take for one row, at best of so many times.
# A reference product takes 60 times as long: nothing that other work on the cores could cause.
SLOWEST, TIMED = 20, 3
# Outputs that are compared at each end, and between them, where a test was passed before.
FEW_OUTPUTS = 64
# How faults begin that memory or other work on the cores may have caused: they are not remembered.
FAILS, TOO_SLOW = "fails: ", "too slow: "


class PackedInt8Linear(nn.Module):
    """An `Int8Linear` whose weights are in the layout of a kernel, and there alone."""

    def __init__(self, layer: Int8Linear, product: Product) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("bias", layer.bias)
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N], in the type of `x`."""
        return self.product(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


# What an `Int8Linear` does by itself.
PLAIN = "fp32"


@dataclass(kw_only=True)
class Int8Packer:
    """Packs layers, each shape by the first kernel of the table that passes its test."""

    dtype: torch.dtype
    kernels: Sequence[Int8Kernel] = KERNELS
    # Tests that were made here before, to which new ones are added; without, all are made.
    tests: KernelTests = field(default_factory=KernelTests)
    # How many layers each kernel has, and why others were passed over, in the order of both.
    counts: dict[str, int] = field(default_factory=dict[str, int])
    reasons: list[str] = field(default_factory=list[str])
    _usable: list[Int8Kernel] | None = None
    # By shape: the kernel that passed, None for the plain layer.
    _chosen: dict[tuple[int, int, bool, int], Int8Kernel | None] = field(
        default_factory=dict[tuple[int, int, bool, int], "Int8Kernel | None"]
    )

    def pack(self, layer: Int8Linear) -> nn.Module:
        """Returns the layer packed, or the layer itself where no kernel is right."""
        shape = (layer.in_features, layer.out_features, layer.bias is not None, layer.parts)
        tried = None
        if shape not in self._chosen:
            self._chosen[shape], tried = self._choose(layer)
        kernel = self._chosen[shape]
        name = PLAIN if kernel is None else kernel.name
        self.counts[name] = self.counts.get(name, 0) + 1
        return layer if kernel is None else PackedInt8Linear(layer, tried or kernel.pack(layer))

    def _choose(self, layer: Int8Linear) -> tuple[Int8Kernel | None, Product | None]:
        """Returns the first kernel that is right, and the layer as packed by it."""
        if self._usable is None:
            obstacles = [kernel.find_obstacle() for kernel in self.kernels]
            pairs = list(zip(self.kernels, obstacles, strict=True))
            self.reasons += [f"{kernel.name}: {why}" for kernel, why in pairs if why]
            self._usable = [kernel for kernel, why in pairs if not why]
        for kernel in [one for one in self._usable if layer.parts <= one.max_parts]:
            name = f"{kernel.name} {_describe(layer)} {self.dtype}"
            fault, product = self.tests.results.get(name), None
            if not fault:
                in_full = fault is None
                fault, product = try_kernel(kernel, layer, dtype=self.dtype, in_full=in_full)
            if not (fault or "").startswith((FAILS, TOO_SLOW)):
                self.tests.results[name] = fault or ""
            if not fault:
                return kernel, product
            self.reasons.append(
                f"{kernel.name}, {layer.in_features} x {layer.out_features}: {fault}"
            )
        return None, None


def find_fault(kernel: Int8Kernel, layer: Int8Linear, *, dtype: torch.dtype) -> str | None:
    """Says what is wrong with the products of a kernel for rows of `dtype`; None if nothing is."""
    return try_kernel(kernel, layer, dtype=dtype)[0]


@torch.inference_mode()
def try_kernel(
    kernel: Int8Kernel, layer: Int8Linear, *, dtype: torch.dtype, in_full: bool = True
) -> tuple[str | None, Product | None]:
    """Returns what is wrong with a kernel as `find_fault` does, and the layer packed by it.

    If not `in_full`, only a few rows are multiplied, and a part of their products is compared.
    """
    rows = _rows_to_try(layer, dtype=dtype, in_full=in_full)
    compared = torch.arange(FEW_ROWS)
    outputs = _few_outputs(layer.out_features)
    if in_full:
        compared = torch.linspace(FEW_ROWS, len(rows) - 1, COMPARED_ROWS).long()
        compared[:FEW_ROWS] = torch.arange(FEW_ROWS)
        outputs = slice(None)
    bound = ROUNDING * (kernel.roundings if dtype == torch.bfloat16 else ROUNDINGS)
    if not in_full:  # of some outputs, the largest product may be smaller than the row's
        bound *= 2
    expected = _take(layer, outputs)(rows[compared], most=kernel.most).float()
    largest = expected.abs().amax(1, keepdim=True)
    try:
        product = kernel.pack(layer)
        if in_full and (times := _times_slower(product, layer, rows[:1])) > SLOWEST:
            return f"{TOO_SLOW}a row takes {times:.0f} times as long as in fp32", None
        many = product(rows)[compared]
        found = {len(rows): many} | {count: product(rows[:count]) for count in (1, FEW_ROWS)}
    except (AttributeError, RuntimeError, TypeError) as error:
        return f"{FAILS}{str(error).splitlines()[0]}", None
    for count, products in found.items():
        off = products[:, outputs].float() - expected[: len(products)]
        off = (off.abs() / largest[: len(products)]).nan_to_num(torch.inf).max()
        if off > bound:
            return f"wrong products of {count} rows, by {float(off):.2g} of the largest", None
        if not torch.equal(products[:FEW_ROWS], many[: min(len(products), FEW_ROWS)]):
            return f"a row among {count} differs from the same among {len(rows)}", None
    return None, product


def _times_slower(product: Product, layer: Int8Linear, row: Tensor) -> float:
    """Returns how many times as long as the plain layer a product takes, each in one thread.

    Several threads wait for one that other work has displaced, and no kernel is to blame for that.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _seconds(product, row) / _seconds(layer, row)
    finally:
        torch.set_num_threads(num_threads)


def _seconds(multiply: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    """Returns the least that a product of `rows` took."""
    found = []
    for _ in range(TIMED):
        began = time.perf_counter()
        multiply(rows)
        if rows.is_cuda:
            torch.cuda.synchronize(rows.device)
        found.append(time.perf_counter() - began)
    return min(found)


def _rows_to_try(layer: Int8Linear, *, dtype: torch.dtype, in_full: bool) -> Tensor:
    """Returns rows [R, K]: random ones, and the weights' own, whose products are the largest."""
    num_rows = max(2 * COMPARED_ROWS, min(MANY_ROWS, MOST_PRODUCTS // layer.out_features))
    num_rows = num_rows if in_full else FEW_ROWS
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(num_rows, layer.in_features, generator=generator)
    rows[::3] = layer.weight[torch.arange(0, num_rows, 3) % layer.out_features].float().cpu()
    return rows.to(dtype=dtype, device=layer.weight.device)


def _few_outputs(count: int) -> Tensor:
    """Returns some of `count` outputs: the first, to which tried rows belong, the last, others."""
    ends = torch.arange(count)
    between = torch.linspace(0, count - 1, FEW_OUTPUTS).long()
    return torch.cat([ends[:FEW_OUTPUTS], between, ends[-FEW_OUTPUTS:]]).unique()


def _take(layer: Int8Linear, outputs: Tensor | slice) -> Int8Linear:
    """Returns a layer of some of the outputs of `layer`."""
    return Int8Linear(
        weight=layer.weight[outputs],
        scale=layer.scale[outputs],
        bias=None if layer.bias is None else layer.bias[outputs],
        parts=layer.parts,
    )


def _describe(layer: Int8Linear) -> str:
    bias = "no bias" if layer.bias is None else f"a bias in {layer.bias.dtype}"
    return f"{layer.in_features} x {layer.out_features} in {layer.parts}, {bias},"
