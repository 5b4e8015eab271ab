"""A run's configuration and a number of processes -> whether some can divide each sequence."""

import os

from onevision.errors import ConfigError
from onevision.plural import counted
from onevision.train.config import TrainConfig


def check_context(config: TrainConfig, *, num_devices: int | None = None) -> None:
    """Refuses a `context` that a run cannot have on a number of devices.

    By default those are the processes that torchrun has started. Raises ConfigError.
    """
    context, num_heads = config.options.context, config.target.language.num_heads
    if context == 1:
        return
    if (objective := whole_objective(config)) is not None:
        raise ConfigError(
            f"context is {context}, but {objective} needs whole sequences in every process; "
            "set context=1"
        )
    if num_heads % context:
        fitting = ", ".join(str(n) for n in range(1, num_heads + 1) if not num_heads % n)
        raise ConfigError(
            f"context is {context}, which does not divide the {num_heads} query heads of this "
            f"model; expected one of {fitting}"
        )
    check_divisor("context", context, num_devices)


def check_divisor(name: str, value: int, num_devices: int | None) -> None:
    """Refuses a size of groups that does not divide the devices, or torchrun's processes."""
    others = "" if num_devices is None else counted(num_devices, "device")
    if num_devices is None:
        num_devices = int(os.environ.get("WORLD_SIZE", "1"))
        others = counted(num_devices, "process", "processes")
    if num_devices % value:
        raise ConfigError(f"{name} is {value}; expected a divisor of the {others}")


def whole_objective(config: TrainConfig) -> str | None:
    """Returns what a run learns by, if that cannot be divided among processes."""
    if config.preference is not None:
        return "learning from preferences"
    if config.reinforce is not None:
        return "learning from rewards"
    name = config.stage.vision_objective
    return None if name == "caption" else f"vision_objective={name}"
