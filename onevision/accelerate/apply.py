"""Network -> the same network, faster on its device: `accelerate` to answer, or to train."""

from dataclasses import dataclass, field

from onevision.accelerate.cpu_attention import attend_on_cpu
from onevision.accelerate.cuda_kernels import fuse_norms, fused_rotate
from onevision.accelerate.fused import FusedAttention, fuse
from onevision.accelerate.packed import can_pack, pack
from onevision.accelerate.quantize import check_kind, quantized_copy
from onevision.model.decoder import Attention, Decoder
from onevision.model.llava import LlavaNetwork
from onevision.model.vision import VisionAttention


@dataclass(frozen=True, kw_only=True)
class Accelerated:
    """A network for inference, and what decodes in place of its language model."""

    network: LlavaNetwork = field(repr=False)
    # Takes the decode steps, one token per answer; None if the network's own language model does.
    decode_model: Decoder | None = field(default=None, repr=False)


def accelerate(network: LlavaNetwork, *, quantize: str | None = None) -> Accelerated:
    """Makes `network` faster for inference on its device, in place.

    On a CPU: attention by `attend_on_cpu`, fused queries, keys and values, packed weights. On a
    GPU: fused projections, norms and rotary positions. With `quantize`, "int8" or "int4", a second
    decoder with smaller weights takes the decode steps (CPU only). Afterwards the network can be
    neither trained, moved nor saved. Raises InputError for another `quantize`, or if it
    is not supported on this device.
    """
    check_kind(quantize)
    decoder = network.language_model
    decode_model = None if quantize is None else quantized_copy(decoder, quantize)
    if decoder.device.type == "cuda":
        fuse(decoder, rotate=fused_rotate)
        fuse_norms(decoder)
    else:
        # A packed gate is computed with its activation, so it is not fused with up.
        fuse(decoder, mlp=not can_pack(decoder.head.weight))
        pack(network)
    _use_device_attention(network)
    return Accelerated(network=network, decode_model=decode_model)


def accelerate_training(network: LlavaNetwork) -> LlavaNetwork:
    """Makes `network` faster for training on its device, in place; returns it.

    On a CPU its attention is `attend_on_cpu`; elsewhere nothing changes. Parameters and their names
    stay, so adapters, sharding and compilation follow as they would without.
    """
    _use_device_attention(network)
    return network


def _use_device_attention(network: LlavaNetwork) -> None:
    if network.language_model.device.type == "cpu":
        for part in network.modules():
            if isinstance(part, Attention | FusedAttention | VisionAttention):
                part.attend = attend_on_cpu
