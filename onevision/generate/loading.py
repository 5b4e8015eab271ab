"""A checkpoint -> its network on one device, ready to answer, with the weights of its files."""

from contextlib import nullcontext

import torch

from onevision.accelerate.apply import Accelerated, accelerate
from onevision.checkpoint.checksums import verifying
from onevision.checkpoint.load import CheckpointInfo, fill_network, use_stored_embedding
from onevision.checkpoint.parts.alone import start_network


def load_accelerated(
    info: CheckpointInfo,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantize: str | None,
    in_memory: bool,
    verify: bool,
) -> Accelerated:
    """Fills a network and makes it fast, while other threads compare its files with checksums.

    With `verify` it returns after both, so that nothing is computed from weights that were altered.
    Raises CheckpointError, InputError.
    """
    network = start_network(info, dtype=dtype, device=device)
    with verifying(info.tensors.values()) if verify else nullcontext():
        fill_network(
            network, info, dtype=dtype, device=device, in_memory=in_memory, verify=verify,
            keep_int4=quantize == "int4",
        )  # fmt: skip
        use_stored_embedding(network, info, in_memory=in_memory)
        return accelerate(network, quantize=quantize)
