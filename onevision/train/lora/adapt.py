"""A stage's network -> the same network with adapters if the settings ask for them, and back."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.adapted import MODEL_CONFIG, digest_base
from onevision.checkpoint.files import new_directory
from onevision.checkpoint.load import inspect
from onevision.config import ModelConfig
from onevision.errors import ConfigError, OneVisionError
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.bases import check_base
from onevision.train.lora.files import save_adapter
from onevision.train.lora.layers import LoraConfig, add_lora
from onevision.train.sharded.places import whole
from onevision.train.stage import Stage
from onevision.train.start import Starts, name_start


def check_adapters(lora: LoraConfig | None, stage: Stage, starts: Starts) -> None:
    """Raises ConfigError for adapters that the stage would not train, or without one base.

    So it does if the base needs a package that is missing.
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
    check_base(lora.base)


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
    network: LlavaNetwork,
    lora: LoraConfig,
    directory: Path,
    *,
    base: Path,
    config: ModelConfig,
    fetch: Callable[[str], Tensor],
    warn: Callable[[str], object] = str,
) -> None:
    """Writes the adapters, and what trained beside them, in PEFT's format, whole or not at all.

    `base` is the checkpoint that they were trained on, `config` what they were trained in, `fetch`
    as in `save_adapter`.
    """
    try:
        digest = digest_base(inspect(base).tensors)
    except (OneVisionError, OSError) as error:
        warn(f"{base} cannot be read ({error}); the adapter does not say which weights it is for")
        digest = None
    with new_directory(directory, replace=True) as partial:
        save_adapter(
            network, lora, partial, base_model=name_start(base), base_digest=digest, fetch=fetch
        )
        (partial / MODEL_CONFIG).write_text(config.to_json(), encoding="utf-8")


def digest_start(lora: LoraConfig | None, starts: Starts) -> dict[str, str]:
    """Returns a digest of the weights below adapters, which snapshots omit; {} without adapters."""
    return {} if lora is None else {"base": digest_base(inspect(starts.previous[0]).tensors)}
