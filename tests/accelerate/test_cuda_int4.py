"""4-bit layers on a GPU: the layout that ATen takes, and what happens where its kernel fails."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from onevision.accelerate import cuda_int4
from onevision.accelerate.cuda_int4 import CudaInt4Linear, pack_int4
from onevision.accelerate.int4 import Int4Linear


def layer_of():
    torch.manual_seed(0)
    return Int4Linear.from_linear(nn.Linear(256, 64, dtype=torch.bfloat16))


class Stands(nn.Module):
    """In the place of a packed layer: computes as the plain one does, but for an error."""

    def __init__(self, layer, error):
        super().__init__()
        self.layer, self.error = layer, error

    def forward(self, x):
        return self.layer(x) + self.error * (len(x) > 1)


def test_torch_takes_the_layout():
    """Without memory: torch compares shapes and types as its kernel does."""
    with FakeTensorMode():
        packed = CudaInt4Linear(layer_of())
        y = packed(torch.empty(3, 5, 256))
    assert packed.packed.shape == (64 // 8, 256 // (16 * cuda_int4.INNER_TILES), 32, 4)
    assert packed.scales.shape == (256 // 64, 64, 2)
    assert (y.shape, y.dtype) == ((3, 5, 64), torch.float32)


def test_a_layer_that_the_kernel_does_not_take_stays_plain_and_says_why():
    """There is no such kernel for a CPU."""
    layer, reasons = layer_of(), []
    assert pack_int4(layer, reasons) is layer
    (reason,) = reasons
    assert reason.startswith("ATen's int4, 256 x 64: ")


def test_a_kernel_with_wrong_products_is_passed_over(monkeypatch):
    layer, reasons = layer_of(), []
    monkeypatch.setattr(cuda_int4, "CudaInt4Linear", lambda layer: Stands(layer, 0.0))
    assert isinstance(pack_int4(layer, reasons), Stands)
    monkeypatch.setattr(cuda_int4, "CudaInt4Linear", lambda layer: Stands(layer, 0.5))
    assert pack_int4(layer, reasons) is layer
    (reason,) = reasons
    assert reason.startswith("ATen's int4, 256 x 64: wrong products of 5 rows, by 0.")
