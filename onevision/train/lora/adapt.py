"""A stage's network -> the same network with adapters if the settings ask for them, and back."""

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
    """Raises ConfigError for adapters that the stage would not train, or without one base."""
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
    """Adds the adapters, if any, in place."""
    if lora is not None:
        add_lora(network, lora, seed=seed)
    return network


def copy_to_cpu(
    network: LlavaNetwork, config: ModelConfig, lora: LoraConfig | None, *, keep: bool
) -> LlavaNetwork | None:
    """Copies a network, which may be sharded, to the CPU; every process calls it.

    Returns None on processes without `keep`.
    """
    tensors = {}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        full = whole(tensor.detach())
        if keep:
            tensors[name] = full.cpu()
    if not keep:
        return None
    with torch.random.fork_rng(devices=[]):  # a new network is initialised before it is filled
        copy = adapt(LlavaNetwork(config), lora, seed=0)
    with torch.no_grad():
        for name, tensor in (*copy.named_parameters(), *copy.named_buffers()):
            tensor.copy_(tensors[name])
    return copy


def write_adapter(
    network: LlavaNetwork, lora: LoraConfig, stage: Stage, directory: Path, *, base_model: str
) -> None:
    """Writes the adapters, and what trained beside them, in PEFT's format, whole or not at all."""
    freeze_parameters(network, stage)  # what trains is what is written
    with new_directory(directory, replace=True) as partial:
        save_adapter(network, lora, partial, base_model=base_model)
