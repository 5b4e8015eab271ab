"""GGUF file of a LLaMA -> its tensors by our names, its sizes, its tokenizer.

GGUF holds what llama.cpp computes with: blocks of 4- or 8-bit numbers with their scales, and
queries and keys whose rows are reordered for its rotary positions. Both are undone as a tensor is
read; the result is what the `gguf` package and transformers compute, to the bit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onevision.checkpoint.files import DTYPES, StoredTensor
from onevision.config import LanguageConfig
from onevision.errors import CheckpointError
from onevision.extras import imports_of_extra
from onevision.plural import counted

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor

# Our names -> those of GGUF, in this order; of a block without its number.
OUTSIDE = {
    "language_model.embedding.weight": "token_embd.weight",
    "language_model.norm.weight": "output_norm.weight",
    "language_model.head.weight": "output.weight",
}
OF_A_BLOCK = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
BYTES: Mapping[str, object] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
DIGITS: Mapping[str, object] = {"type": "Digits", "individual_digits": True}
# How text is split before BPE, by llama.cpp's name for it: as tokenizer.json spells it.
SPLITS: Mapping[str, Mapping[str, object]] = {
    "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTES]},
}
# The rest of a LLaMA's header that is read, or says what follows from it.
SIZES = frozenset(
    ("llama." + key)
    for key in (
        *("vocab_size", "context_length", "embedding_length", "block_count"),
        *("feed_forward_length", "attention.head_count", "attention.head_count_kv"),
        *("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count"),
    )
)
# Kinds of blocks that tests compare with transformers.
KINDS = ("F32", "Q4_1", "Q8_0")
CONTROL = 3  # the kind of a control token
HELP = "pip install 'onevision[small]' installs the reader of GGUF files"


@dataclass(frozen=True, kw_only=True)
class GGUFTensor(StoredTensor):
    """A tensor of a GGUF file; `dtype` is the type it is read in."""

    blocks: NDArray[Any] = field(compare=False, repr=False)  # Any: bytes, or floats, as stored
    kind: "GGMLQuantizationType"
    # Of queries and keys: heads whose rows are reordered.
    num_heads: int | None = None

    def read(self) -> Tensor:
        """Returns the tensor as floats, its rows in the order of every other checkpoint."""
        from gguf.quants import dequantize

        tensor = torch.tensor(dequantize(self.blocks, self.kind)).view(self.shape)
        if self.num_heads is not None:  # pairs of rows (i, i + K/2) lie side by side
            tensor = tensor.unflatten(0, (self.num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        tensor = tensor.to(DTYPES[self.dtype])
        return tensor if self.change is None else self.change(tensor).to(tensor.dtype)


@dataclass(frozen=True, kw_only=True)
class GGUFModel:
    """What a GGUF file holds; weights are not read yet."""

    language: LanguageConfig
    tensors: dict[str, StoredTensor]  # by our names
    tokenizer: str  # the text of a tokenizer.json
    chat_template: str
    end_id: int


def read_gguf(path: Path, *, dtype: str = "F32") -> GGUFModel:
    """Reads the headers of a LLaMA's GGUF file; its tensors are read in `dtype`.

    Raises CheckpointError, also for a missing extra.
    """
    with imports_of_extra("small", f"{path}: {HELP}", error=CheckpointError):
        from gguf import GGUFReader
    try:
        reader = GGUFReader(path)
        values = {name: part.contents() for name, part in reader.fields.items()}
    except Exception as error:  # the package checks little; a damaged file may raise anything
        raise CheckpointError(f"{path}: not a readable GGUF file ({error!r:.80})") from error
    try:
        language = _read_sizes(values, reader, path)
        return GGUFModel(
            language=language,
            tensors=_list_tensors(reader, language, path, dtype=dtype),
            tokenizer=json.dumps(_tokenizer(values, path), ensure_ascii=False),
            chat_template=values.get("tokenizer.chat_template", ""),
            end_id=int(values["tokenizer.ggml.eos_token_id"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header lacks a value ({error!r:.80})") from error


def _read_sizes(values: Mapping[str, Any], reader: "GGUFReader", path: Path) -> LanguageConfig:
    kind = values["general.architecture"]
    if kind != "llama":
        raise CheckpointError(f"{path}: it holds a {kind!r}; supported is 'llama'")
    if others := sorted(k for k in values if k.startswith("llama.") and k not in SIZES):
        raise CheckpointError(
            f"{path}: {others[0]} is {values[others[0]]!r:.40}, which would be ignored; "
            "give the original checkpoint in safetensors"
        )
    return LanguageConfig(
        vocab_size=len(values["tokenizer.ggml.tokens"]),
        hidden_size=values["llama.embedding_length"],
        intermediate_size=values["llama.feed_forward_length"],
        num_layers=values["llama.block_count"],
        num_heads=values["llama.attention.head_count"],
        num_kv_heads=values["llama.attention.head_count_kv"],
        max_positions=values["llama.context_length"],
        rope_theta=values["llama.rope.freq_base"],
        # fp32 in the file
        rms_norm_eps=float(np.format_float_scientific(
            np.float32(values["llama.attention.layer_norm_rms_epsilon"])
        )),
        tie_embeddings=all(t.name != "output.weight" for t in reader.tensors),
        attention_bias=False,
    )  # fmt: skip


def _list_tensors(
    reader: "GGUFReader", language: LanguageConfig, path: Path, *, dtype: str
) -> dict[str, StoredTensor]:
    names = {theirs: ours for ours, theirs in OUTSIDE.items()}
    heads: dict[str, int] = {}
    for block in range(language.num_layers):
        ours = f"language_model.blocks.{block}"
        names |= {f"blk.{block}.{b}.weight": f"{ours}.{a}.weight" for a, b in OF_A_BLOCK.items()}
        heads[f"{ours}.attention.query.weight"] = language.num_heads
        heads[f"{ours}.attention.key.weight"] = language.num_kv_heads
    if unknown := sorted({t.name for t in reader.tensors} - names.keys()):
        raise CheckpointError(
            f"{path}: it has {counted(len(unknown), 'tensor')} that no LLaMA has "
            f"(for instance {unknown[0]})"
        )
    if odd := next((t for t in reader.tensors if t.tensor_type.name not in KINDS), None):
        raise CheckpointError(
            f"{path}: {odd.name} is in {odd.tensor_type.name}; supported are {', '.join(KINDS)}"
        )
    size = torch.empty(0, dtype=DTYPES[dtype]).element_size()

    def describe(tensor: "ReaderTensor") -> StoredTensor:
        return GGUFTensor(
            path=path,
            name=tensor.name,
            shape=tuple(int(side) for side in reversed(tensor.shape)),
            num_bytes=int(tensor.n_elements) * size,
            dtype=dtype,
            blocks=tensor.data,
            kind=tensor.tensor_type,
            num_heads=heads.get(names[tensor.name]),
        )

    return {names[tensor.name]: describe(tensor) for tensor in reader.tensors}


def _tokenizer(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns the byte-level BPE of a GGUF file as tokenizer.json spells it."""
    split = values["tokenizer.ggml.pre"]
    if values["tokenizer.ggml.model"] != "gpt2" or split not in SPLITS:
        raise CheckpointError(
            f"{path}: its tokenizer is {values['tokenizer.ggml.model']}, {split}; supported are "
            f"gpt2 with {', '.join(SPLITS)}"
        )
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    controls = [i for i, kind in enumerate(kinds) if kind == CONTROL]
    marks = {"special": True} | dict.fromkeys(
        ("single_word", "lstrip", "rstrip", "normalized"), False
    )
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": tokens[i]} | marks for i in controls],
        "normalizer": None,
        "pre_tokenizer": SPLITS[split],
        "post_processor": None,
        "decoder": BYTES,
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": values["tokenizer.ggml.merges"],
        },
    }
