"""A stage's network -> the same with adapters where settings ask for them; and back, at its end."""

from pathlib import Path

import torch

from onevision.checkpoint.files import new_directory
from onevision.config import ModelConfig
from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, add_lora
from onevision.train.optim import freeze_parameters
from onevision.train.parallel import whole
from onevision.train.stage import Stage
from onevision.train.start import Starts


def check_adapters(lora: LoraConfig | None, stage: Stage, starts: Starts) -> None:
    """Refuse adapters that the stage would not train, or that lie on no single checkpoint.

    Raises ConfigError.
    """
    if lora is None:
        return
    if frozen := [part for part in lora.parts if part not in stage.trainable]:
        raise ConfigError(
            f"lora_parts names {', '.join(frozen)}, which stage {stage.name} does not train; "
            f"expected among {', '.join(stage.trainable)}"
        )
    if len(starts.previous) != 1:
        raise ConfigError(
            f"adapters lie on one checkpoint, but {len(starts.previous)} were given; give the "
            "directory or hub id of one, or train without lora_rank"
        )


def adapt(network: LlavaNetwork, lora: LoraConfig | None, *, seed: int) -> LlavaNetwork:
    """Add the adapters, if any, in place."""
    if lora is not None:
        add_lora(network, lora, seed=seed)
    return network


def gathered(
    network: LlavaNetwork, config: ModelConfig, lora: LoraConfig | None, *, keep: bool
) -> LlavaNetwork | None:
    """Copy a network that may be sharded to the CPU; every process calls it.

    Returns None on those that are not to `keep` it.
    """
    tensors = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        full = whole(tensor.detach())
        if keep:
            tensors[name] = full.cpu()
    if not keep:
        return None
    with torch.random.fork_rng(devices=[]):  # a new network is drawn before it is filled
        copy = adapt(LlavaNetwork(config), lora, seed=0)
    with torch.no_grad():
        for name, tensor in (*copy.named_parameters(), *copy.named_buffers()):
            tensor.copy_(tensors[name])
    return copy


def write_adapter(
    network: LlavaNetwork, lora: LoraConfig, stage: Stage, directory: Path, *, base_model: str
) -> None:
    """Write the adapters, and what learned beside them, in PEFT's format, whole or not at all."""
    freeze_parameters(network, stage)  # what learns is what is written
    with new_directory(directory, replace=True) as partial:
        save_adapter(network, lora, partial, base_model=base_model)
