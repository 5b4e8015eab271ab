"""Network or checkpoint -> a checkpoint directory in any of the three layouts.

A directory appears complete or not at all. Tensors are renamed and otherwise unchanged, except that
transformers' LLaMA gets rows for the placeholders appended.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.checksums import verify_checksums, write_checksums
from onevision.checkpoint.files import check_finite, new_directory, write_shards
from onevision.checkpoint.load import TIED_HEAD, CheckpointInfo
from onevision.checkpoint.names import (
    LAYOUTS,
    LLAVA_HF,
    LMMS_LAB,
    LMMS_LAB_LINEAR,
    OURS,
    TensorNames,
    foreign_name,
)
from onevision.checkpoint.write_files import hf_vocab_size, llava_hf_files, lmms_lab_files
from onevision.config import ModelConfig, Template
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork

# The tensors with one row per token.
VOCABULARY = ("language_model.embedding.weight", TIED_HEAD)
# Files beside the weights that mean the same in every layout.
COMPANIONS = ("generation_config.json", "LICENSE", "README.md", "training.json")


def convert(
    source: CheckpointInfo,
    destination: Path,
    *,
    layout: str,
    template: Template | None = None,
    tokenizer: Tokenizer | None = None,
    verify: bool = True,
) -> None:
    """Rewrites a checkpoint in another layout, shard by shard. Raises CheckpointError.

    `template` replaces the chat format that was read, `tokenizer` the one of the source. With
    `verify`, the weights must have their checksums.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(f"no layout {layout!r}; expected one of {', '.join(LAYOUTS)}")
    config = source.config
    if template is not None:
        config = replace(config, inputs=replace(config.inputs, template=template))
    names = names_of_layout(layout, config)
    ours = {foreign_name(name, names): name for name in source.tensors}
    tokenizer = tokenizer or Tokenizer.from_directory(source.texts)
    files = _config_files(config, tokenizer, layout=layout)
    rows = config.language.vocab_size
    if layout == "llava-hf":
        rows = hf_vocab_size(config, tokenizer)

    def read(name: str) -> Tensor:
        stored = source.tensors[ours[name]]
        tensor = stored.read()
        check_finite(tensor, stored.name, where=stored.path)
        return _append_rows(tensor, rows) if ours[name] in VOCABULARY else tensor

    with new_directory(destination) as partial:
        sizes = {name: source.tensors[own].num_bytes for name, own in ours.items()}
        write_shards(partial, sizes, read)
        if verify:  # last: a number that is not finite says more
            verify_checksums(source.tensors.values())
        if layout == OURS:
            write_checksums(partial)
        for name in COMPANIONS:
            if (source.texts / name).is_file():
                shutil.copyfile(source.texts / name, partial / name)
        _write_texts(partial, files)


def names_of_layout(layout: str, config: ModelConfig) -> TensorNames | None:
    """Returns the naming in which a model is written in a layout; None is our own."""
    if layout == OURS:
        return None
    if layout == "llava-hf":
        return LLAVA_HF
    return LMMS_LAB_LINEAR if config.projector.num_layers == 1 else LMMS_LAB


def _append_rows(tensor: Tensor, rows: int) -> Tensor:
    """Appends rows of zeros, for ids that no token has yet."""
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), tensor.shape[1])])


def save(
    network: LlavaNetwork,
    config: ModelConfig,
    tokenizer: Tokenizer,
    destination: Path,
    *,
    dtype: torch.dtype | None = None,
    companions: Mapping[str, str] | None = None,
) -> None:
    """Writes a network in our own layout, replacing what `destination` held.

    `companions` are more files to write beside it (name -> content), such as
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
        write_checksums(partial)
        _write_texts(partial, files)


def _config_files(config: ModelConfig, tokenizer: Tokenizer, *, layout: str) -> dict[str, str]:
    """Returns everything but the weights: file name -> content. Raises CheckpointError."""
    if layout == OURS:
        return {"config.json": config.to_json(), "tokenizer.json": tokenizer.definition}
    if layout == "lmms-lab":
        return lmms_lab_files(config, tokenizer)
    return llava_hf_files(config, tokenizer)


def _write_texts(directory: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")
