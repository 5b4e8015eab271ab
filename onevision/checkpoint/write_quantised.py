"""Quantised network -> a checkpoint directory in compressed-tensors' format.

The layout is that of transformers. Layers that stay as they are are listed by
patterns that fit the names of their modules in vLLM too.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onevision.checkpoint.adapted import TIED_HEAD
from onevision.checkpoint.checksums import write_checksums
from onevision.checkpoint.files import new_directory, write_shards
from onevision.checkpoint.names import LLAVA_HF
from onevision.checkpoint.quantised_formats import RoundedWeight
from onevision.checkpoint.quantised_schemes import Scheme
from onevision.checkpoint.save import VOCABULARY, append_rows
from onevision.checkpoint.write_files import hf_vocab_size, llava_hf_files
from onevision.config import ModelConfig
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork

HEAD = TIED_HEAD.removesuffix(".weight")


def save_quantised(
    network: LlavaNetwork,
    weights: Mapping[str, RoundedWeight],
    scheme: Scheme,
    config: ModelConfig,
    tokenizer: Tokenizer,
    destination: Path,
    *,
    dtype: torch.dtype,
    companions: Mapping[str, str],
) -> None:
    """Writes a network whose layers in `weights` are rounded, whole or not at all.

    Other tensors are written in `dtype`. `companions` are more files to write beside it (name ->
    content). Raises CheckpointError if `destination` holds anything, or for a model that
    transformers cannot express.
    """
    files = quantised_files(network, weights, scheme, config, tokenizer, dtype=dtype)
    tensors = _plain_tensors(network, weights, dtype=dtype)
    if HEAD not in weights and config.language.tie_embeddings:
        tensors.pop(TIED_HEAD)
    rows = hf_vocab_size(config, tokenizer)
    for name in tensors.keys() & set(VOCABULARY):
        tensors[name] = append_rows(tensors[name], rows)
    stored = {LLAVA_HF.translate(name): tensor for name, tensor in tensors.items()}
    for name, weight in weights.items():
        whole = _append_rows(weight, rows) if name == HEAD else weight
        foreign = LLAVA_HF.translate(f"{name}.weight").removesuffix("weight")
        stored |= {foreign + end: part for end, part in whole.encode(scheme).items()}
    with new_directory(destination) as partial:
        sizes = {name: t.numel() * t.element_size() for name, t in stored.items()}
        write_shards(partial, sizes, stored.__getitem__)
        write_checksums(partial)
        for name, content in (files | dict(companions)).items():
            (partial / name).write_text(content, encoding="utf-8")


def quantised_files(
    network: LlavaNetwork,
    weights: Mapping[str, object],
    scheme: Scheme,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    dtype: torch.dtype,
) -> dict[str, str]:
    """Returns everything but the weights: file name -> content. Raises CheckpointError."""
    if HEAD in weights:
        config = replace(config, language=replace(config.language, tie_embeddings=False))
    files = llava_hf_files(config, tokenizer)
    values = json.loads(files["config.json"])
    values["torch_dtype"] = str(dtype).removeprefix("torch.")
    linear = [name for name, part in network.named_modules() if _is_linear(part)]
    values["quantization_config"] = _quantization_config(
        scheme, quantised=set(weights), kept=[name for name in linear if name not in weights]
    )
    return files | {"config.json": json.dumps(values, indent=2, ensure_ascii=False) + "\n"}


def _quantization_config(
    scheme: Scheme, *, quantised: set[str], kept: list[str]
) -> dict[str, Any]:  # Any: JSON
    weights: dict[str, Any] = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "channel" if scheme.group is None else "group",
        "group_size": scheme.group,
        "dynamic": False,
    }
    inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    # vLLM's head is no "Linear", so it is named.
    targets = ["Linear", *([_module_pattern(HEAD)] if HEAD in quantised else [])]
    group = {
        "targets": targets,
        "weights": weights,
        "input_activations": inputs if scheme.has_int8_activations else None,
        "output_activations": None,
        "format": scheme.storage,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": scheme.storage,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": [_module_pattern(name) for name in kept],
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def _module_pattern(name: str) -> str:
    """Returns a pattern for the names that one of our linear layers has in other programs.

    Their prefixes differ: model.language_model.layers (transformers 4.52 and later),
    language_model.model.layers (before, and vLLM); with and without vision_model.
    """
    foreign = LLAVA_HF.translate(f"{name}.weight").removesuffix(".weight")
    if foreign.endswith("lm_head"):
        return "re:.*lm_head$"
    pattern = foreign.replace(".", r"\.")
    for optional in (r"language_model\.model\.", r"vision_tower\.vision_model\."):
        first, second, _ = optional.split(r"\.")
        pattern = pattern.replace(optional, rf"{first}\.({second}\.)?")
    return f"re:(model\\.)?{pattern}$"


def _plain_tensors(
    network: LlavaNetwork, weights: Mapping[str, object], *, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Returns every tensor but those of rounded weights, by our names, in `dtype`."""
    rounded = {f"{name}.{end}" for name in weights for end in ("weight", "scale")}
    state = network.state_dict()
    return {n: t.detach().to(dtype) for n, t in state.items() if n not in rounded}


def _append_rows(weight: RoundedWeight, rows: int) -> RoundedWeight:
    """Appends rows of zeros, for ids that no token has yet."""
    scale = weight.scale.new_ones(rows - len(weight.scale), weight.scale.shape[1])
    return RoundedWeight(
        numbers=append_rows(weight.numbers, rows), scale=torch.cat([weight.scale, scale])
    )


def _is_linear(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear)
