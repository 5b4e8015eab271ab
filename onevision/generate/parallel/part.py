"""A checkpoint -> what one device computes, accelerated."""

from dataclasses import dataclass, field

import torch

from onevision.accelerate.apply import accelerate
from onevision.checkpoint.load import CheckpointInfo, use_stored_embedding
from onevision.config import ModelConfig
from onevision.generate.parallel.layers import sum_blocks
from onevision.generate.parallel.protocol import PartSpec
from onevision.generate.parallel.shards import load_part
from onevision.model.llava import LlavaNetwork


@dataclass(frozen=True, kw_only=True)
class Part:
    """One device's part of a network."""

    network: LlavaNetwork = field(repr=False)
    config: ModelConfig  # with the sizes of the part
    arithmetic: str
    reasons: tuple[str, ...]


def load_own(info: CheckpointInfo, spec: PartSpec) -> Part:
    """Loads the part that `spec` names of the checkpoint `info`.

    Raises InputError, CheckpointError.
    """
    network, own = load_part(
        info,
        rank=spec.rank,
        count=spec.count,
        dtype=getattr(torch, spec.dtype),
        device=spec.device,
        in_memory=spec.in_memory,
        verify=spec.verify,
        keep_int4=spec.quantize == "int4",
    )
    if spec.rank == 0:
        use_stored_embedding(network, own, in_memory=spec.in_memory)
    accelerated = accelerate(network, quantize=spec.quantize)
    sum_blocks(network.language_model)
    return Part(
        network=network,
        config=own.config,
        arithmetic=f"{accelerated.arithmetic} on each of {spec.count} devices",
        reasons=accelerated.reasons,
    )
