"""Network or checkpoint -> a checkpoint directory in any of the layouts.

A directory appears complete or not at all. Tensors are renamed and otherwise unchanged, except that
transformers' LLaMA gets rows for the placeholders appended.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.adapted import TIED_HEAD
from onevision.checkpoint.checksums import verify_checksums, write_checksums
from onevision.checkpoint.files import StoredTensor, check_finite, new_directory, write_shards
from onevision.checkpoint.load import CheckpointInfo
from onevision.checkpoint.names import (
    LAYOUTS,
    LLAVA_HF,
    LMMS_LAB,
    LMMS_LAB_LINEAR,
    NATIVE_LAYOUTS,
    ONEVISION_1_5,
    ONEVISION_2,
    OURS,
    TensorNames,
    foreign_name,
)
from onevision.checkpoint.streamed.writer import streamed_order, write_streamed
from onevision.checkpoint.write_config import transformer
from onevision.checkpoint.write_files import hf_vocab_size, llava_hf_files, lmms_lab_files
from onevision.checkpoint.write_native import native_files
from onevision.config import ModelConfig, Template
from onevision.errors import CheckpointError
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork
from onevision.values import name_closest

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
    dequantise: bool = False,
) -> None:
    """Rewrites a checkpoint in another layout, shard by shard. Raises CheckpointError.

    `template` replaces the chat format that was read, `tokenizer` the one of the source. With
    `verify`, the weights must have their checksums. Quantised weights are multiplied out with
    `dequantise`, and refused without it.
    """
    _check_request(source, layout, dequantise=dequantise)
    config = source.config
    if template is not None:
        config = replace(config, inputs=replace(config.inputs, template=template))
    names = source.names
    if layout != source.layout or layout == LLAVA_HF.layout:  # the one naming that vLLM reads, too
        names = names_of_layout(layout, config)
    ours: dict[str, list[str]] = {}  # by the layout's name: one of ours, or the three it joins
    for name in source.tensors:
        ours.setdefault(foreign_name(name, names), []).append(name)
    tokenizer = tokenizer or Tokenizer.from_directory(source.texts)
    files = _config_files(config, tokenizer, layout=layout)
    rows = config.language.vocab_size
    if layout == "llava-hf":
        rows = hf_vocab_size(config, tokenizer)

    def read(name: str) -> Tensor:
        tensor = _read_joined([source.tensors[own] for own in ours[name]])
        return append_rows(tensor, rows) if ours[name][0] in VOCABULARY else tensor

    with new_directory(destination) as partial:
        sizes = {
            name: sum(source.tensors[own].num_bytes for own in parts)
            for name, parts in ours.items()
        }
        write_shards(partial, sizes, read)
        if verify:  # last: a number that is not finite says more
            verify_checksums(source.tensors.values())
        if layout == OURS:
            write_checksums(partial)
        for name in COMPANIONS:
            if (source.texts / name).is_file():
                shutil.copyfile(source.texts / name, partial / name)
        _write_texts(partial, files)


def _check_request(source: CheckpointInfo, layout: str, *, dequantise: bool) -> None:
    if source.scheme is not None and not dequantise:
        raise CheckpointError(
            f"{source.directory}: its weights are quantised, {source.scheme.describe()}; convert "
            "the original checkpoint, or multiply these out (--dequantize)"
        )
    if layout not in LAYOUTS:
        raise CheckpointError(f"no layout {layout!r}{name_closest(layout, LAYOUTS)}")


def _read_joined(parts: Sequence[StoredTensor]) -> Tensor:
    """Reads a tensor, or the parts of one, which the layout joins."""
    tensors = [stored.read() for stored in parts]
    for stored, tensor in zip(parts, tensors, strict=True):
        check_finite(tensor, stored.name, where=stored.path)
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def names_of_layout(layout: str, config: ModelConfig) -> TensorNames | None:
    """Returns the naming in which a model is written in a layout; None is our own.

    Raises CheckpointError for a model that other layouts cannot express.
    """
    if layout == OURS:
        return None
    transformer(config)
    if layout == "llava-hf":
        return LLAVA_HF
    if layout in NATIVE_LAYOUTS:
        return ONEVISION_1_5 if layout == ONEVISION_1_5.layout else ONEVISION_2
    return LMMS_LAB_LINEAR if config.projector.num_layers == 1 else LMMS_LAB


def append_rows(tensor: Tensor, rows: int) -> Tensor:
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
    held = dict(network.state_dict())
    save_weights(
        held, lambda name: held[name].detach(), config, tokenizer, destination,
        dtype=dtype, companions=companions,
    )  # fmt: skip


def save_weights(
    expected: Mapping[str, Tensor],
    fetch: Callable[[str], Tensor],
    config: ModelConfig,
    tokenizer: Tokenizer,
    destination: Path,
    *,
    dtype: torch.dtype | None = None,
    companions: Mapping[str, str] | None = None,
) -> None:
    """As `save`, of tensors that `fetch` returns by name, one at a time.

    `expected` holds a tensor, perhaps without memory, of each one's shape and type. Those that are
    written are fetched in the order of `written_types`.
    """
    files = _config_files(config, tokenizer, layout=OURS) | dict(companions or {})
    types = written_types(expected, config, dtype=dtype)
    with new_directory(destination, replace=True) as partial:
        write_streamed(partial, types, lambda name: fetch(name).to("cpu", dtype))
        write_checksums(partial)
        _write_texts(partial, files)


def written_types(
    expected: Mapping[str, Tensor], config: ModelConfig, *, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Returns what `save_weights` writes, without memory, in the order in which it fetches it."""
    tied = {TIED_HEAD} if config.language.tie_embeddings else set[str]()
    types = {name: t.to("meta", dtype) for name, t in expected.items() if name not in tied}
    return {name: types[name] for name in streamed_order(types)}


def _config_files(config: ModelConfig, tokenizer: Tokenizer, *, layout: str) -> dict[str, str]:
    """Returns everything but the weights: file name -> content. Raises CheckpointError."""
    if layout == OURS:
        return {"config.json": config.to_json(), "tokenizer.json": tokenizer.definition}
    if layout == "lmms-lab":
        return lmms_lab_files(config, tokenizer)
    if layout in NATIVE_LAYOUTS:
        return native_files(config, tokenizer, layout=layout)
    return llava_hf_files(config, tokenizer)


def _write_texts(directory: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")
