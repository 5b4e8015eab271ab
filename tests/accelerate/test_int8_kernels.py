"""Kernels of the table give the products of the plain layer; one that does not is found out."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.int8_kernels import (
    CUBLAS_ROWS,
    CUDA_KERNELS,
    KERNELS,
    AtenProduct,
    FbgemmProduct,
    Int8Kernel,
)
from onevision.accelerate.int8_packer import Int8Packer, PackedInt8Linear, find_fault

DTYPES = [torch.bfloat16, torch.float32]


def layer_of(num_inputs, num_outputs, *, parts=1):
    torch.manual_seed(0)
    linear = torch.nn.Linear(num_inputs, num_outputs).bfloat16()
    return Int8Linear.from_linear(linear, parts=parts)


def kernel_of(product, name="new"):
    return Int8Kernel(name=name, find_obstacle=lambda: None, pack=product)


class WrongBeyond300(AtenProduct):
    """Errs in one output where more than 300 inputs meet more than 5 rows."""

    def __call__(self, x):
        y = super().__call__(x)
        if x.shape[1] > 300 and len(x) > 5:
            y[:, 7] *= 1.5
        return y


class ScalesAllRowsAlike(AtenProduct):
    """Right for a row alone, but quantises all rows by the largest of them."""

    def __call__(self, x):
        largest = x.abs().max()
        step = largest / 127
        rows = (x / step).round().to(torch.int8)
        return (self._multiply(rows, torch.float32) * step + self.bias).to(x.dtype)


class TakesAReference(AtenProduct):
    """Right, and as slow as a product that has no kernel."""

    def __call__(self, x):
        time.sleep(0.2 * len(x))
        return super().__call__(x)


class Fails(AtenProduct):
    """Cannot multiply here."""

    def __call__(self, x):
        raise RuntimeError(f"no rows of {x.shape[1]} on this processor\nsecond line")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("kernel", [*KERNELS, *CUDA_KERNELS], ids=lambda kernel: kernel.name)
def test_a_kernel_of_the_table_multiplies_rightly(kernel, dtype, parts):
    if (why := kernel.find_obstacle()) is not None or parts > kernel.max_parts:
        pytest.skip(f"{kernel.name}: {why or 'rows of one part'}")
    for shape in ((72, 40), (896, 128), (1152, 100)):
        assert find_fault(kernel, layer_of(*shape, parts=parts), dtype=dtype) is None


@pytest.mark.parametrize("count", [1, CUBLAS_ROWS - 1, CUBLAS_ROWS, CUBLAS_ROWS + 1])
@pytest.mark.parametrize("parts", [1, 2])
def test_too_few_rows_for_a_gpu_are_padded_to_the_same_products(monkeypatch, count, parts):
    """A GPU's `_int_mm` refuses 16 rows or fewer; a processor's takes any."""
    multiply, met = torch._int_mm, []

    def refuse_few(rows, weight):
        met.append(len(rows))
        return multiply(rows, weight)

    layer, x = layer_of(72, 40, parts=parts), torch.randn(count, 72)
    plain = AtenProduct(layer)(x)
    monkeypatch.setattr(torch, "_int_mm", refuse_few)
    assert torch.equal(CUDA_KERNELS[0].pack(layer)(x), plain)
    assert met == [max(CUBLAS_ROWS, count * parts)]


def test_rows_of_7_bits_never_overflow_16():
    """The largest products that there are, which oneDNN gets wrong on a processor without VNNI."""
    weight = torch.full((32, 96), 127, dtype=torch.int8)
    weight[1::2] = -127
    layer = Int8Linear(weight=weight, scale=torch.ones(32))
    x = torch.ones(9, 96)
    x[1::2] = -1
    found = FbgemmProduct(layer)(x)
    assert torch.allclose(found, x @ weight.float().T, rtol=1e-6)


# With ONEDNN_VERBOSE=1, oneDNN prints "...,exec,cpu,matmul,brg_matmul:avx512_core_vnni,...".
ASK_ONEDNN = """
import torch
from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.int8_kernels import OneDnnProduct
weight = torch.randint(-127, 128, (128, 192), dtype=torch.int8)
product = OneDnnProduct(Int8Linear(weight=weight, scale=torch.ones(128)))
for count in (1, 5, 64):
    product(torch.ones(count, 192, dtype=torch.bfloat16))
"""


def test_onednn_does_not_multiply_by_its_reference():
    """It is right, so the test of kernels passes it, and a thousand times as slow."""
    if why := next(one for one in KERNELS if one.name == "oneDNN").find_obstacle():
        pytest.skip(why)
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-c", ASK_ONEDNN]
    lines = subprocess.check_output(command, env=environment, text=True).splitlines()
    products = [line.split(",matmul,")[1] for line in lines if ",exec,cpu,matmul," in line]
    assert len(products) == 3
    assert not [product for product in products if product.startswith("ref")]


def test_torch_keeps_its_own_engine_for_quantised_tensors():
    before = torch.backends.quantized.engine
    FbgemmProduct(layer_of(64, 32))
    assert torch.backends.quantized.engine == before


def test_a_kernel_that_is_wrong_for_one_shape_is_not_used_for_that_shape():
    right = kernel_of(AtenProduct, "right")
    packer = Int8Packer(dtype=torch.bfloat16, kernels=(kernel_of(WrongBeyond300), right))
    layers = [layer_of(256, 32), layer_of(512, 32), layer_of(512, 32)]
    packed = [packer.pack(layer) for layer in layers]
    assert packer.counts == {"new": 1, "right": 2}
    (reason,) = packer.reasons
    assert reason.startswith("new, 512 x 32: wrong products of 729 rows, by 0.")
    x = torch.randn(9, 512).bfloat16()
    assert torch.equal(packed[1](x), AtenProduct(layers[1])(x))


def test_a_kernel_whose_rows_depend_on_each_other_is_found_out():
    fault = find_fault(kernel_of(ScalesAllRowsAlike), layer_of(64, 32), dtype=torch.float32)
    assert fault is not None


def test_a_kernel_that_takes_a_reference_product_is_passed_over_after_a_row():
    right = kernel_of(AtenProduct, "right")
    kernels = (kernel_of(TakesAReference), right)
    packer = Int8Packer(dtype=torch.float32, kernels=kernels)
    packer.pack(layer_of(64, 32))
    assert packer.counts == {"right": 1}
    (reason,) = packer.reasons
    assert reason.startswith("new, 64 x 32: too slow: a row takes ")


def test_a_layer_that_no_kernel_takes_stays_as_it_is():
    absent = Int8Kernel(name="absent", find_obstacle=lambda: "not installed", pack=AtenProduct)
    packer = Int8Packer(dtype=torch.float32, kernels=(absent, kernel_of(Fails)))
    layer = layer_of(64, 32)
    assert packer.pack(layer) is layer
    assert packer.reasons == [
        "absent: not installed",
        "new, 64 x 32: fails: no rows of 64 on this processor",
    ]
    assert packer.counts == {"fp32": 1}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_memory_of_a_packed_layer_is_that_of_its_weights(kernel):
    if (why := kernel.find_obstacle()) is not None:
        pytest.skip(f"{kernel.name}: {why}")
    size = 6144
    kernel.pack(layer_of(64, 32))  # what a first product needs besides
    before = resident_bytes()
    weight = torch.randint(-127, 128, (size, size), dtype=torch.int8)
    product = kernel.pack(Int8Linear(weight=weight, scale=torch.ones(size)))
    del weight
    held = resident_bytes() - before
    assert 0.9 * size**2 < held < 1.4 * size**2, held / size**2
    assert product(torch.ones(1, size)).shape == (1, size)


def resident_bytes():
    ctypes.CDLL(None).malloc_trim(0)  # pages that were freed do not count
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_packed_layer_holds_its_weights_once():
    packed = Int8Packer(dtype=torch.bfloat16).pack(layer_of(256, 128))
    assert isinstance(packed, PackedInt8Linear)
    assert [tensor.shape for tensor in packed.buffers()] == [(128,)]  # the bias
    assert sum(t.numel() for t in packed.product.tensors if t.dtype == torch.int8) == 256 * 128
