"""The memory of a device, and what is offloaded -> what is left on the device, and on the host.

What blocks keep for their backward pass is the same for every block. So what moves is what all of
them keep but one, which the device works on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from onevision.config import ModelConfig, VisionConfig
from onevision.train.cost.memory import FP32, Memory, count_parameters
from onevision.train.offload.choice import Offload
from onevision.train.offload.optimizer import PIECE_NUMBERS


@dataclass(frozen=True, kw_only=True)
class HostMemory:
    """Bytes of host memory for one device, by use."""

    moments: float = 0.0
    activations: float = 0.0


NOTHING = HostMemory()


def move_to_host(
    estimate: Callable[[ModelConfig], Memory], config: ModelConfig, offload: Offload
) -> tuple[Memory, HostMemory]:
    """Returns the memory of a device and of its host.

    `estimate` returns that of a device without offloading, for an architecture.
    """
    memory, host = estimate(config), HostMemory()
    if offload.optimizer:
        host = replace(host, moments=memory.moments)
        most = 2 * FP32 * max(PIECE_NUMBERS, count_parameters(config).largest)
        memory = replace(memory, moments=min(memory.moments, most))
    if offload.activations:
        moved = memory.activations - estimate(_of_one_block(config)).activations
        host = replace(host, activations=moved)
        memory = replace(memory, activations=memory.activations - moved)
    return memory, host


def _of_one_block(config: ModelConfig) -> ModelConfig:
    """Returns an architecture with one block a part; a convolutional trunk stays whole."""
    vision = config.vision
    if isinstance(vision, VisionConfig):
        vision = replace(vision, num_layers=1)
    return replace(config, vision=vision, language=replace(config.language, num_layers=1))
