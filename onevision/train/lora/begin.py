"""Adapters of an earlier run -> the adapters that a run begins with, on the same base."""

import hashlib
from pathlib import Path

import torch

from onevision.checkpoint.adapted import check_base_of
from onevision.checkpoint.adapter_config import ADAPTER_CONFIG, AdapterConfig, read_adapter_config
from onevision.checkpoint.adapters import ADAPTER
from onevision.checkpoint.files import check_finite, list_tensors
from onevision.checkpoint.hub import resolve_adapter
from onevision.checkpoint.load import inspect
from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.plural import counted
from onevision.train.config import TrainConfig
from onevision.train.lora.files import adapter_parameters
from onevision.train.lora.layers import LoraConfig
from onevision.train.parallel import Processes
from onevision.train.start import Starts


def check_beginning(config: TrainConfig, processes: Processes) -> None:
    """Refuses `lora_from` in a run that would not heed it, or heed it wrongly. Raises ConfigError.

    Where processes divide the network, or it is in few bits, its weights come after its adapters.
    """
    options = config.options
    if options.lora_from is None:
        return
    if processes.divides or options.lora_base != "full":
        raise ConfigError(
            "lora_from needs a network that is whole in every process and in full weights; leave "
            "out sharing=shard, tensor and lora_base, or begin with the merged checkpoint"
        )
    if config.preference is not None or config.reinforce is not None:
        raise ConfigError(
            "lora_from is for supervised stages: preferences and rewards compare with the model "
            "that the run begins with; give --from the merged checkpoint"
        )


def begin_adapters(network: LlavaNetwork, config: TrainConfig, starts: Starts) -> None:
    """Fills the adapters, and what trains beside them, from `lora_from`, if it is set; in place.

    Everything that the run trains must be in the files, and nothing else; tokens that the earlier
    run had none of begin as the base has them. Raises CheckpointError for files that cannot be read
    or belong to another base, ConfigError for what does not fit.
    """
    lora = config.options.lora
    if config.options.lora_from is None or lora is None:
        return
    directory = resolve_adapter(config.options.lora_from)
    _check_kind(read_adapter_config(directory / ADAPTER_CONFIG), lora, directory)
    check_base_of(directory, inspect(starts.previous[0]).tensors)
    stored = list_tensors([directory / ADAPTER])
    names = adapter_parameters(network)
    # A stage of single crops has no `image_newline`; the next one begins with its own.
    new = {name for name in names.keys() - stored.keys() if names[name] in network.learned_tokens}
    for odd, what in (
        (sorted(stored.keys() - names.keys()), "holds {}, which this run does not train"),
        (sorted(names.keys() - stored.keys() - new), "lacks {}, which this run trains"),
    ):
        if odd:
            raise ConfigError(
                f"lora_from: {directory} {what.format(odd[0])} "
                f"(and {counted(len(odd) - 1, 'other')} like it); set lora_parts, lora_layers and "
                "trainable as they were"
            )
    parameters = dict(network.named_parameters())
    for name in names.keys() - new:
        tensor, ours = stored[name].read(), names[name]
        if tensor.shape != parameters[ours].shape:
            raise ConfigError(
                f"lora_from: {directory}: {name} is {list(tensor.shape)}, here it is "
                f"{list(parameters[ours].shape)}; give the adapters of a model of this size"
            )
        check_finite(tensor, name, where=stored[name].path)
        with torch.no_grad():
            parameters[ours].copy_(tensor)


def digest_beginning(lora_from: str | None) -> dict[str, str]:
    """Returns a digest of the adapters that a run begins with; {} if they are new."""
    if lora_from is None:
        return {}
    path = resolve_adapter(lora_from) / ADAPTER
    return {"adapters": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def _check_kind(found: AdapterConfig, lora: LoraConfig, directory: Path) -> None:
    pairs = {
        "lora_rank": (found.rank, lora.rank),
        "lora_alpha": (found.alpha, lora.alpha),
        "lora_rslora": (found.stabilised, lora.stabilised),
        "lora_dora": (found.has_magnitudes, lora.magnitudes),
    }
    for key, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ConfigError(
                f"lora_from: {directory} has {key}={str(theirs).lower()}, this run "
                f"{str(ours).lower()}; set {key}={str(theirs).lower()}"
            )
    if found.ranks or found.alphas:
        raise ConfigError(
            f"lora_from: {directory} has other ranks in some layers (rank_pattern, alpha_pattern); "
            "merge it (onevision convert --base) and begin with the result"
        )
