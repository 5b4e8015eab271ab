"""A run's configuration and a number of processes -> whether some can work on the same samples."""

from onevision.config import LanguageConfig
from onevision.errors import ConfigError
from onevision.train.config import TrainConfig
from onevision.train.context.rules import check_context, check_divisor, whole_objective
from onevision.train.options import RunOptions


def check_division(config: TrainConfig, *, num_devices: int | None = None) -> None:
    """Refuses a `context` or `tensor` that a run cannot have on a number of devices.

    By default those are the processes that torchrun has started. Raises ConfigError.
    """
    check_context(config, num_devices=num_devices)
    tensor = config.options.tensor
    if tensor == 1:
        return
    if (objective := whole_objective(config)) is not None:
        raise ConfigError(
            f"tensor is {tensor}, but {objective} needs the whole model in every process; "
            "set tensor=1"
        )
    _check_options(config.options)
    _check_sizes(config.target.language, tensor)
    check_divisor("tensor", tensor, num_devices)


def fitting_divisors(language: LanguageConfig) -> tuple[int, ...]:
    """Returns the numbers of processes that can divide each layer of a language model."""
    return tuple(
        n
        for n in range(1, language.num_kv_heads + 1)
        if not any(size % n for size in _sizes(language).values())
    )


def _sizes(language: LanguageConfig) -> dict[str, int]:
    return {
        "key/value heads": language.num_kv_heads,
        "query heads": language.num_heads,
        "hidden numbers of the MLPs": language.intermediate_size,
    }


def _check_sizes(language: LanguageConfig, tensor: int) -> None:
    for what, size in _sizes(language).items():
        if size % tensor:
            raise ConfigError(
                f"tensor is {tensor}, which does not divide the {size} {what} of this model; "
                f"expected one of {', '.join(map(str, fitting_divisors(language)))}"
            )


def _check_options(options: RunOptions) -> None:
    """Refuses options that divided layers do not have. Raises ConfigError."""
    for name, allowed, why in (
        ("context", (1,), "the same processes cannot divide sequences and layers"),
        ("replicas", (1,), "a group holds one copy of the layers, and is no replica of another"),
        ("compiled", (False,), "divided layers are not compiled"),
        ("lora_dora", (False,), "lengths of rows need whole rows"),
        ("lora_dropout", (0.0,), "the processes of a group would drop different inputs"),
        ("offload_optimizer", (False,), "moments of divided weights stay beside them"),
        ("offload_activations", (False,), "what divided layers keep stays beside them"),
        ("lora_base", ("full", "int8"), "weights of that kind cannot be divided"),
    ):
        if (value := getattr(options, name)) not in allowed:
            raise ConfigError(
                f"tensor is {options.tensor} and {name} is {value}, but {why}; set "
                f"{' or '.join(f'{name}={one}' for one in allowed)}, or tensor=1"
            )
