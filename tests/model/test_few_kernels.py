"""What a GPU computes in fewer kernels is what the plain formulas give, to a rounding."""

import pytest
import torch

from onevision.model import few_kernels
from onevision.model.attention import attend_last, attend_last_fused
from onevision.model.decoder import RMSNorm, rotary, rotate

# Of the greatest part of a result: two roundings of 8 bits, and of 24.
NEAR = {torch.bfloat16: 2**-7, torch.float32: 1e-6}
DTYPES = pytest.mark.parametrize("dtype", list(NEAR))


@DTYPES
def test_the_norm(dtype):
    torch.manual_seed(0)
    norm = RMSNorm(96, eps=1e-6).to(dtype)
    norm.weight.data.uniform_(0.5, 2)
    x = 3 * torch.randn(50, 96).to(dtype)
    plain, fused = norm(x), few_kernels.rms_norm(x, norm.weight, norm.eps)
    assert ((plain - fused).abs() <= NEAR[dtype] * plain.abs()).all()


@DTYPES
def test_rotary_positions(dtype):
    torch.manual_seed(0)
    x = torch.randn(1, 6, 40, 16).to(dtype)
    cos, sin = rotary(torch.arange(40)[None], 16, theta=1e4, dtype=dtype)
    plain, fused = rotate(x, (cos, sin)), few_kernels.rotate(x, cos, sin)
    assert ((plain - fused).abs() <= NEAR[dtype] * x.abs().max()).all()


@pytest.mark.parametrize(("length", "total"), [(1, 9), (9, 9), (4, 9)])
@pytest.mark.parametrize("window", [None, 5])
@DTYPES
def test_attention(length, total, window, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(h, n, 16).to(dtype) for h, n in ((4, length), (2, total), (2, total)))
    plain, fused = (attend(q, k, v, window=window) for attend in (attend_last, attend_last_fused))
    assert (plain - fused).abs().max() <= 4 * NEAR[dtype]
