"""Network -> the same network, faster on its device: `accelerate` to answer, or to train."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import nn

from onevision.accelerate.cpu_attention import attend_on_cpu
from onevision.accelerate.cuda_attention import attend_on_cuda
from onevision.accelerate.cuda_int4 import CudaInt4Linear
from onevision.accelerate.cuda_kernels import fuse_norms, fused_rotate
from onevision.accelerate.fused import FusedAttention, FusedVisionAttention, fuse
from onevision.accelerate.int4 import Int4Linear, PackedInt4Linear
from onevision.accelerate.int8_kernels import KERNELS_OF
from onevision.accelerate.int8_packer import Int8Packer
from onevision.accelerate.kernel_tests import KernelTests, open_tests
from onevision.accelerate.packed import PackedLinear, can_pack, pack
from onevision.accelerate.quantize import check_kind, quantise, stored_kind
from onevision.model.attention import Attend
from onevision.model.decoder import Attention
from onevision.model.llava import LlavaNetwork
from onevision.model.vision import VisionAttention

# By type of device, what replaces plain attention.
ATTENTION: Mapping[str, Attend] = MappingProxyType({"cpu": attend_on_cpu, "cuda": attend_on_cuda})


@dataclass(frozen=True, kw_only=True)
class Accelerated:
    """A network for inference, and what it computes with."""

    network: LlavaNetwork = field(repr=False)
    # "bfloat16", "int8 by oneDNN", ...; and why a faster kernel was passed over.
    arithmetic: str
    reasons: tuple[str, ...] = ()


def accelerate(network: LlavaNetwork, *, quantize: str | None = None) -> Accelerated:
    """Makes `network` faster for inference on its device, in place.

    On a CPU: attention by `attend_on_cpu`, fused queries, keys and values, packed weights. On a
    GPU: fused projections, norms and rotary positions. `quantize`, a key of `quantize.QUANTIZED`,
    quantises plain linear layers first; layers that are quantised already stay so, and the plain
    ones beside them plain. Tests of a CPU's kernels are remembered, unless the user wants all of
    them (`kernel_tests.py`). Weights are held once. Afterwards the network can be neither trained,
    moved nor saved. Raises InputError for another `quantize`, or if it is not supported
    on this device.
    """
    check_kind(quantize)
    if quantize is not None:
        quantise(network, quantize)
    decoder, kind = network.language_model, quantize or stored_kind(network)
    on_gpu = decoder.device.type == "cuda"
    if on_gpu:
        fuse(network, rotate=fused_rotate)
        fuse_norms(decoder)
    else:
        # A packed gate is computed with its activation, so it is not fused with up.
        fuse(network, mlp=not can_pack(decoder.norm.weight))
    tests = KernelTests() if kind is None or on_gpu else open_tests()
    kernels = KERNELS_OF.get(decoder.device.type, ())
    packer = Int8Packer(dtype=decoder.dtype, kernels=kernels, tests=tests)
    pack(network, packer)
    tests.save()
    _use_device_attention(network)
    return Accelerated(
        network=network,
        arithmetic=_describe(network, kind, packer),
        reasons=tuple(packer.reasons),
    )


def accelerate_training(
    network: LlavaNetwork, *, device: torch.device | None = None
) -> LlavaNetwork:
    """Makes `network` faster for training on its device, in place; returns it.

    `device` is where it will be if its weights have no memory yet. Its attention is
    `attend_on_cpu` or `attend_on_cuda`; nothing else changes. Parameters and their names stay, so
    adapters, sharding and compilation follow as they would without.
    """
    _use_device_attention(network, device=device)
    return network


def _describe(network: LlavaNetwork, kind: str | None, packer: Int8Packer) -> str:
    """Says what linear layers compute in: "int8 (281 by oneDNN)"."""
    plain = str(network.language_model.dtype).removeprefix("torch.")
    if kind is None:
        return plain
    counts = [f"{count} by {name}" for name, count in packer.counts.items()]
    for kinds, what in (
        (PackedInt4Linear | CudaInt4Linear, "in 4 bits"),
        (Int4Linear, "in 4 bits by fp32"),
        (PackedLinear | nn.Linear, f"in {plain}"),
    ):
        number = sum(isinstance(part, kinds) for part in network.modules())
        counts += [f"{number} {what}"] if number else []
    return f"{kind} ({', '.join(counts)})"


def _use_device_attention(network: LlavaNetwork, *, device: torch.device | None = None) -> None:
    kinds = Attention | FusedAttention | VisionAttention | FusedVisionAttention
    attend = ATTENTION.get((device or network.language_model.device).type)
    if attend is not None:
        for part in network.modules():
            if isinstance(part, kinds):
                part.attend = attend
