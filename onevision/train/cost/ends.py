"""The memory of one device before the first step and after the last, when weights come and go.

Weights are read, drawn and written tensor by tensor, so that beside its own part a device holds the
largest tensor at most: once as it is drawn or read, and as it is written three times, gathered, put
together and converted or merged with its adapter. Assumes `sharing` as it is set; learning from
preferences begins with the whole model on every device.
"""

from dataclasses import dataclass

from onevision.config import ModelConfig
from onevision.train.cost.memory import FP32, Memory, count_parameters

COPIES_AT_END = 3


@dataclass(frozen=True, kw_only=True)
class MemoryAtEnds:
    """Bytes on one device, at their peak."""

    start: float  # its weights, and one tensor
    end: float  # its weights and moments, and one tensor on its way to the file


def memory_at_ends(config: ModelConfig, memory: Memory) -> MemoryAtEnds:
    """Returns the peaks beside that of the steps, `memory`."""
    largest = FP32 * count_parameters(config).largest
    return MemoryAtEnds(
        start=memory.weights + largest,
        end=memory.weights + memory.moments + COPIES_AT_END * largest,
    )
