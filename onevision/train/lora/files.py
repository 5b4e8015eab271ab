"""Adapters -> a directory in PEFT's format, which loads onto transformers' LlavaOnevision.

    adapter_config.json          rank, alpha, and the full name of each adapted layer
    adapter_model.safetensors    base_model.model.<layer>.lora_A.weight and .lora_B.weight, with
                                 DoRA .lora_magnitude_vector; in its header a digest of the base,
                                 so that another one is refused
    onevision_config.json        how images and words were prepared, which PEFT does not read

Layers have the names they have in transformers' memory (5.6 and later; the vision tower's names
differ before that). PEFT matches suffixes, so a short name such as "q_proj" would also match the
vision tower; a full name matches one layer.

The same file holds what trained beside the adapters. Modules, such as the projector's layers, are
listed in `modules_to_save`, where PEFT looks for them. `image_newline` is not a module: it is
stored under its plain name, and PEFT writes it into the model it is given. A second file would be
easier to tell apart, but PEFT would not read it and would answer with an untrained projector.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from onevision.checkpoint.adapted import BASE_KEY
from onevision.checkpoint.files import save_tensors
from onevision.checkpoint.names import LLAVA_HF_5_6
from onevision.errors import CheckpointError
from onevision.files import write_json
from onevision.model.llava import LlavaNetwork
from onevision.train.lora.layers import LoraConfig, adapted_layers

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# The fields in which PEFT tells plain LoRA from its variants.
PLAIN_LORA: Mapping[str, object] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def save_adapter(
    network: LlavaNetwork,
    config: LoraConfig,
    directory: Path,
    *,
    base_model: str,
    base_digest: str | None = None,
    fetch: Callable[[str], Tensor] | None = None,
) -> None:
    """Writes the adapters, and everything else that trains, to `directory`.

    `fetch` returns a parameter by its name if `network` does not hold it whole; it is called in
    the order of `adapter_parameters`. `base_model` is the directory or hub id of the model below
    the adapters, `base_digest` the digest of its tensors. Raises CheckpointError if the network
    has no adapters.
    """
    layers = adapted_layers(network)
    if not layers:
        raise CheckpointError("the network has no adapters to save; call add_lora first")
    fetch = fetch or dict(network.named_parameters()).__getitem__
    tensors = {key: fetch(name) for key, name in adapter_parameters(network).items()}
    modules = trained_modules(network)
    values = dict(PLAIN_LORA) | {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.stabilised,
        "use_dora": config.magnitudes,
        "target_modules": [_foreign_module(name) for name in layers],
        "modules_to_save": [_foreign_module(m) for m in modules if m] or None,
        "inference_mode": True,
    }
    on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    metadata = {"format": "pt"} | ({} if base_digest is None else {BASE_KEY: base_digest})
    save_tensors(on_cpu, directory / WEIGHTS, metadata=metadata)
    write_json(directory / CONFIG, values)


def adapter_parameters(network: LlavaNetwork) -> dict[str, str]:
    """Returns the names of what is written: PEFT's -> that of our parameter."""
    names: dict[str, str] = {}
    for name, layer in adapted_layers(network).items():
        path = PREFIX + _foreign_module(name)
        names[f"{path}.lora_A.weight"] = f"{name}.lora_a"
        names[f"{path}.lora_B.weight"] = f"{name}.lora_b"
        if layer.magnitude is not None:
            names[f"{path}.lora_magnitude_vector"] = f"{name}.magnitude"
    for name in _own_parameters(network, trained_modules(network)):
        names[PREFIX + LLAVA_HF_5_6.translate(name)] = name
    return names


def trained_modules(network: LlavaNetwork) -> list[str]:
    """Returns the modules, other than adapters, with a trainable parameter; "" is the network."""
    layers = adapted_layers(network).items()
    adapters = {f"{name}.{own}" for name, layer in layers for own in layer.own_parameters()}
    trained = [n for n, p in network.named_parameters() if p.requires_grad and n not in adapters]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in trained))


def _own_parameters(network: LlavaNetwork, modules: list[str]) -> dict[str, nn.Parameter]:
    """Returns all parameters of `modules` themselves, frozen ones too: PEFT wants modules whole."""
    return {
        f"{module}.{name}".lstrip("."): parameter
        for module in modules
        for name, parameter in network.get_submodule(module).named_parameters(recurse=False)
    }


def _foreign_module(module: str) -> str:
    """Returns the full name that one of our modules has in transformers' memory."""
    return LLAVA_HF_5_6.translate(f"{module}.weight").removesuffix(".weight")
