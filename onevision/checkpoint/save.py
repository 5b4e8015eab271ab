"""Network or checkpoint -> a checkpoint directory in any of the three layouts.

A directory appears whole or not at all. Tensors are renamed, never changed.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.files import new_directory, write_shards
from onevision.checkpoint.load import TIED_HEAD, CheckpointInfo
from onevision.checkpoint.names import LAYOUTS, LLAVA_HF, LMMS_LAB, OURS, Names, rename
from onevision.checkpoint.write_files import llava_hf_files, lmms_lab_files
from onevision.config import ModelConfig
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork

WRITTEN_NAMES: dict[str, Names | None] = {OURS: None, "lmms-lab": LMMS_LAB, "llava-hf": LLAVA_HF}
# Files beside the weights that mean the same in every layout.
COMPANIONS = ("generation_config.json", "LICENSE", "README.md")


def convert(source: CheckpointInfo, destination: Path, *, layout: str) -> None:
    """Write a checkpoint again in another layout, shard by shard. Raises CheckpointError."""
    if layout not in LAYOUTS:
        raise CheckpointError(f"no layout {layout!r}; expected one of {', '.join(LAYOUTS)}")
    names = WRITTEN_NAMES[layout]
    keys = {rename(ours, names): key for ours, key in source.tensors.items()}
    tokenizer = Tokenizer.from_directory(source.directory)
    files = _config_files(source.config, tokenizer, layout=layout)
    with new_directory(destination) as partial:
        write_shards(
            partial,
            {name: source.files.num_bytes[key] for name, key in keys.items()},
            lambda name: source.files.read(keys[name]),
        )
        for name in COMPANIONS:
            if (source.directory / name).is_file():
                shutil.copyfile(source.directory / name, partial / name)
        _write_texts(partial, files)


def save(
    network: LlavaNetwork,
    config: ModelConfig,
    tokenizer: Tokenizer,
    destination: Path,
    *,
    dtype: torch.dtype | None = None,
    companions: Mapping[str, str] | None = None,
) -> None:
    """Write a network in our own layout, in place of what `destination` held.

    `companions` are further files to write beside it (name -> content), such as
    generation_config.json. `dtype` None keeps the type of each tensor. Raises CheckpointError.
    """
    files = _config_files(config, tokenizer, layout=OURS) | dict(companions or {})
    tensors: dict[str, Tensor] = dict(network.state_dict())
    if config.language.tie_embeddings:
        tensors.pop(TIED_HEAD)
    tensors = {name: tensor.detach().to("cpu", dtype) for name, tensor in tensors.items()}
    with new_directory(destination, replace=True) as partial:
        write_shards(
            partial,
            {name: t.numel() * t.element_size() for name, t in tensors.items()},
            tensors.__getitem__,
        )
        _write_texts(partial, files)


def _config_files(config: ModelConfig, tokenizer: Tokenizer, *, layout: str) -> dict[str, str]:
    """Return everything but the weights: file name -> content. Raises CheckpointError."""
    if layout == OURS:
        return {"config.json": config.to_json(), "tokenizer.json": tokenizer.definition}
    if layout == "lmms-lab":
        return lmms_lab_files(config, tokenizer)
    return llava_hf_files(config, tokenizer)


def _write_texts(directory: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")
