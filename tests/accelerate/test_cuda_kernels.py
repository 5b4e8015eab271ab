"""Fewer kernels compute what the plain modules do, to one rounding."""

import pytest
import torch

from onevision.accelerate.cuda_kernels import FusedRMSNorm, fused_rotate
from onevision.model.decoder import RMSNorm, rotary, rotate

# Relative to the largest part of a result: two roundings to 8 bits, and to 24.
NEAR = {torch.bfloat16: 2**-7, torch.float32: 1e-6}
DTYPES = pytest.mark.parametrize("dtype", list(NEAR))


@DTYPES
def test_the_norm(dtype):
    torch.manual_seed(0)
    norm = RMSNorm(96, eps=1e-6).to(dtype)
    norm.weight.data.uniform_(0.5, 2)
    x = 3 * torch.randn(50, 96).to(dtype)
    plain, fused = norm(x), FusedRMSNorm(norm)(x)
    assert ((plain - fused).abs() <= NEAR[dtype] * plain.abs()).all()


@DTYPES
def test_rotary_positions(dtype):
    torch.manual_seed(0)
    x = torch.randn(1, 6, 40, 16).to(dtype)
    cos, sin = rotary(torch.arange(40)[None], 16, theta=1e4, dtype=dtype)
    plain, fused = rotate(x, (cos, sin)), fused_rotate(x, (cos, sin))
    assert ((plain - fused).abs() <= NEAR[dtype] * x.abs().max()).all()
