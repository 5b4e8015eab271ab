"""What this processor computes fast, of what kernels are chosen by."""

from functools import cache

import torch


@cache
def has_amx() -> bool:
    """Whether it multiplies tiles of bf16 and int8, and the system allows it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") and capabilities.get("amx_int8"))


@cache
def has_vnni() -> bool:
    """Whether it adds products of 8 bits in 32 bits; without, in 16."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))


@cache
def has_avx512_vnni() -> bool:
    """Whether it does so in registers of AVX-512."""
    return bool(torch.cpu.get_capabilities().get("avx512_vnni"))


@cache
def can_multiply(dtype: torch.dtype) -> bool:
    """Whether the processor itself multiplies in `dtype`: fp32, and bf16 with AVX-512 bf16 or AMX.

    With other AVX-512, oneDNN emulates bf16: for more than a few rows, fp32 is four to five times
    as fast (docs/performance.md).
    """
    if dtype == torch.bfloat16:
        capabilities = torch.cpu.get_capabilities()
        is_x86 = capabilities.get("architecture") == "x86_64"
        is_native = any(map(capabilities.get, ("avx512_bf16", "amx_bf16", "avx10_2")))
        return has_layout(dtype) and (is_native or not is_x86)
    return dtype == torch.float32


@cache
def has_layout(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies in `dtype`, natively or not, with a layout of its own."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32
