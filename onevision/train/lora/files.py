"""Adapters <-> a directory in the format of PEFT, which loads onto transformers' LlavaOnevision.

    adapter_config.json          rank, alpha, and the full name of every layer that has an adapter
    adapter_model.safetensors    base_model.model.<layer>.lora_A.weight and .lora_B.weight

Layers go by the names they have in transformers' memory (5.6 and later; before, the vision tower's
names differ). PEFT takes a name for a suffix, so a short one such as "q_proj" would also meet the
vision tower; full names meet one layer each.

What trained beside the adapters lies in the same file. Modules, such as the projector's layers, are
listed in `modules_to_save`, PEFT's own place for them. `image_newline` is no module: it stands
under its plain name, and PEFT writes it into the model it is given. A second file would be simpler
to tell apart, but PEFT would not read it, and answer with an untrained projector.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from onevision.checkpoint.files import read_json, save_tensors
from onevision.checkpoint.names import LLAVA_HF_4_52, LLAVA_HF_5_6, TensorNames
from onevision.errors import CheckpointError, ConfigError
from onevision.files import write_json
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.layers import (
    PARTS,
    Base,
    LoraConfig,
    adapted_layers,
    add_lora,
    linear_names,
)

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Kinds of adapters that are not read here: what PEFT may say of them, and what it must.
PLAIN_LORA: Mapping[str, object] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def save_adapter(
    network: LlavaNetwork, config: LoraConfig, directory: Path, *, base_model: str
) -> None:
    """Write the adapters, and all else that trains, to `directory`.

    `base_model` is the directory or hub id of the model below the adapters. Raises CheckpointError
    where the network has no adapters.
    """
    layers = adapted_layers(network)
    if not layers:
        raise CheckpointError("the network has no adapters to save; call add_lora first")
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        path = PREFIX + _module_path(name, LLAVA_HF_5_6)
        tensors[f"{path}.lora_A.weight"] = layer.lora_a
        tensors[f"{path}.lora_B.weight"] = layer.lora_b
    modules = trained_modules(network)
    for name, parameter in _beside(network, modules).items():
        tensors[PREFIX + LLAVA_HF_5_6.translate(name)] = parameter
    values = dict(PLAIN_LORA) | {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": [_module_path(name, LLAVA_HF_5_6) for name in layers],
        "modules_to_save": [_module_path(m, LLAVA_HF_5_6) for m in modules if m] or None,
        "inference_mode": True,
    }
    on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    save_tensors(on_cpu, directory / WEIGHTS, metadata={"format": "pt"})
    write_json(directory / CONFIG, values)


def load_adapter(network: LlavaNetwork, directory: Path, *, base: Base = "full") -> LoraConfig:
    """Put the adapters of `directory` into a network without any; returns their config.

    What was trained beside them is put in place too; it and the adapters train, all else is frozen.
    The network stays as it was where CheckpointError is raised: the files are unreadable, of
    another kind than LoRA on whole parts, or made for another architecture.
    """
    found = _read_tensors(directory / WEIGHTS)
    tensors = _translate(network, found, where=directory / WEIGHTS)
    config = _read_config(directory / CONFIG, _parts_of(network, tensors), base)
    _check_shapes(network, config, tensors, where=directory / WEIGHTS)
    add_lora(network, config)
    with torch.no_grad():
        for name, tensor in tensors.items():
            network.get_parameter(name).copy_(tensor)
            network.get_parameter(name).requires_grad_(True)
    return config


def trained_modules(network: LlavaNetwork) -> list[str]:
    """Return the modules, adapters left out, of which a parameter trains; "" is the network."""
    adapters = {f"{n}.{p}" for n in adapted_layers(network) for p in ("lora_a", "lora_b")}
    trained = [n for n, p in network.named_parameters() if p.requires_grad and n not in adapters]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in trained))


def _beside(network: LlavaNetwork, modules: list[str]) -> dict[str, nn.Parameter]:
    """Return all parameters that belong to `modules` themselves: PEFT wants modules whole."""
    return {
        f"{module}.{name}".lstrip("."): parameter
        for module in modules
        for name, parameter in network.get_submodule(module).named_parameters(recurse=False)
    }


def _module_path(module: str, names: TensorNames) -> str:
    """Return the full name of one of our modules in transformers' memory."""
    return names.translate(f"{module}.weight").removesuffix(".weight")


def _translate(
    network: LlavaNetwork, found: Mapping[str, Tensor], *, where: Path
) -> dict[str, Tensor]:
    """Name the tensors of a file as ours, by whichever names they follow."""
    tables = [_table(network, names) for names in (LLAVA_HF_5_6, LLAVA_HF_4_52)]
    for table in tables:
        if found.keys() <= table.keys():
            return {table[key]: tensor for key, tensor in found.items()}
    unknown = sorted(found.keys() - tables[0].keys())
    raise CheckpointError(
        f"{where}: {len(unknown)} tensors belong to no layer of this model, such as {unknown[0]}; "
        "give the adapter of a LlavaOnevision of this architecture"
    )


def _table(network: LlavaNetwork, names: TensorNames) -> dict[str, str]:
    """Return every key that may stand in a file -> our name for it."""
    table = {PREFIX + names.translate(ours): ours for ours in network.state_dict()}
    for ours in linear_names(network, PARTS):
        path = PREFIX + _module_path(ours, names)
        table[f"{path}.lora_A.weight"] = f"{ours}.lora_a"
        table[f"{path}.lora_B.weight"] = f"{ours}.lora_b"
    return table


def _parts_of(network: LlavaNetwork, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the parts for which there is an adapter."""
    return [
        part
        for part in PARTS
        if any(f"{name}.lora_a" in tensors for name in linear_names(network, (part,)))
    ]


def _check_shapes(
    network: LlavaNetwork, config: LoraConfig, tensors: Mapping[str, Tensor], *, where: Path
) -> None:
    """Refuse tensors that are missing, too many, or of another shape."""
    expected: dict[str, tuple[int, ...]] = {}
    adapted = linear_names(network, config.parts)
    for name in adapted:
        linear = network.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        expected[f"{name}.lora_a"] = (config.rank, linear.in_features)
        expected[f"{name}.lora_b"] = (linear.out_features, config.rank)
    for name, parameter in network.named_parameters():
        if name in tensors and name.rpartition(".")[0] not in adapted:
            expected[name] = tuple(parameter.shape)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [n for n in sorted(found | expected) if found.get(n) != expected.get(n)]
    if wrong:
        raise CheckpointError(
            f"{where}: {len(wrong)} tensors do not fit this model; {wrong[0]} is "
            f"{found.get(wrong[0], 'missing')}, expected {expected.get(wrong[0], 'none')}; "
            "give the adapter of this architecture"
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; is this the directory of an adapter?") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def _read_config(path: Path, parts: list[str], base: Base) -> LoraConfig:
    values: dict[str, Any] = read_json(path)  # Any: foreign JSON
    for name, expected in PLAIN_LORA.items():
        if (found := values.get(name, expected)) != expected:
            raise CheckpointError(f"{path}: {name} is {found!r}; only {expected!r} is read here")
    try:
        return LoraConfig(
            rank=values["r"],
            alpha=values["lora_alpha"],
            dropout=values.get("lora_dropout", 0.0),
            parts=tuple(part for part in PARTS if part in parts),
            base=base,
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: the field {error} is missing; write it again") from error
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
