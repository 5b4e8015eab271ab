"""Stage -> the network it begins with: fresh, or taken over from earlier stages."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from onevision.checkpoint.load import inspect, load_network
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.stages import STARTS_FROM, Stage

INITIAL_STD = 0.02


def start_network(stage: Stage, config: ModelConfig, starts: Sequence[Path]) -> LlavaNetwork:
    """Build the network of `stage` from the checkpoints in `starts`, in STARTS_FROM's order.

    What no earlier stage made is initialised at random. Raises ConfigError where the starts do not
    fit the architecture.
    """
    expected = STARTS_FROM[stage.name]
    goes_on = not expected and len(starts) == 1  # from its own output, for longer
    if len(starts) != len(expected) and not goes_on:
        raise ConfigError(
            f"stage {stage.name} starts from {' and '.join(expected) or 'nothing'}; "
            f"{len(starts)} checkpoints were given"
        )
    network = LlavaNetwork(config)
    network.apply(_initialise)
    if stage.name == "align":
        vision, language = (_load(path) for path in starts)
        _take(network.vision_encoder, vision.vision_encoder, starts[0])
        _take(network.language_model, language.language_model, starts[1])
    elif starts:
        previous = _load(starts[0])
        for name in ("vision_encoder", "projector", "language_model"):
            _take(network.get_submodule(name), previous.get_submodule(name), starts[0])
        # FIDELITY: the align stage has no `image_newline`; it starts as N(0, 1/D) in the next one.
        if network.image_newline is not None and previous.image_newline is not None:
            network.image_newline = previous.image_newline
    return network


def _load(path: Path) -> LlavaNetwork:
    return load_network(inspect(path), dtype=torch.float32)


def _take(part: nn.Module, source: nn.Module, path: Path) -> None:
    try:
        part.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: its {type(part).__name__} does not fit this model; "
            "give the checkpoint of the same architecture"
        ) from error


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
