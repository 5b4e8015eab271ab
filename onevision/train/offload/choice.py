"""What a run keeps in host memory, and a warning where that is the device's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Offload:
    """What lies in host memory while the device does not need it."""

    optimizer: bool = False
    activations: bool = False


NO_OFFLOAD = Offload()


def warn_of_offload(
    offload: Offload, device: torch.device, *, warn: Callable[[str], object]
) -> None:
    """Warns of what gains nothing, because the device computes in host memory."""
    if device.type != "cpu":
        return
    for name in ("optimizer", "activations"):
        if getattr(offload, name):
            warn(
                f"offload_{name}=true saves nothing with device=cpu, whose memory is the host's: "
                "it costs copies, and computes the same"
            )
