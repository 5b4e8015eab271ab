"""Checkpoint directory of any known layout -> network, config, tokenizer, generation defaults."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onevision.accelerate.empty import without_memory
from onevision.accelerate.int4 import GROUP, Int4Linear
from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.quantize import DEVICES
from onevision.accelerate.stored_embedding import StoredEmbedding
from onevision.checkpoint.adapted import EMBEDDING, adapt, holds_projector
from onevision.checkpoint.checksums import verifying
from onevision.checkpoint.contents import read_contents
from onevision.checkpoint.files import StoredTensor, check_finite, read_json
from onevision.checkpoint.matching import match_tensors
from onevision.checkpoint.names import TensorNames, detect_names
from onevision.checkpoint.parts.packaged import ADAPTERS, is_packaged
from onevision.checkpoint.quantised_formats import QuantisedTensor
from onevision.checkpoint.quantised_schemes import Scheme
from onevision.checkpoint.read_config import read_config
from onevision.config import ModelConfig
from onevision.errors import CheckpointError, ConfigError, InputError
from onevision.inputs.templates import END, TURN_END
from onevision.inputs.tokenizer import END_OF_TEXT, IM_END, Tokenizer
from onevision.model.llava import LlavaNetwork


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults:
    """What generation_config.json says about ending and repeating."""

    end_ids: tuple[int, ...]
    repetition_penalty: float


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint contains, read without its weights."""

    directory: Path
    names: TensorNames | None  # None for our own layout
    config: ModelConfig
    tensors: Mapping[str, StoredTensor]  # by our names
    # Where the tokenizer and the generation defaults are: the directory itself, or its base.
    texts: Path
    # How its quantised weights are stored; None if all are plain.
    scheme: Scheme | None

    @property
    def layout(self) -> str:
        """The layout's name: onevision, lmms-lab, llava-hf, onevision-1.5 or onevision-2."""
        return "onevision" if self.names is None else self.names.layout


def inspect(
    directory: Path,
    *,
    base: Path | None = None,
    tower: Path | None = None,
    adapter: Path | None = None,
    verify: bool = True,
) -> CheckpointInfo:
    """Reads a checkpoint's config and headers, and matches every tensor. Raises CheckpointError.

    `base` is the language model that a projector or adapters alone were trained on, `tower` the
    vision encoder of a checkpoint without one. `adapter` is a LoRA directory, which is merged into
    the tensors as they are read; with `verify` it must have been trained on these weights, if it
    says which.
    """
    if adapter is not None:
        if (adapter / "config.json").is_file() and not holds_projector(directory):
            return inspect(adapter, base=directory, tower=tower)  # a language model, and the rest
        info = inspect(directory, base=base, tower=tower)
        check_plain(info, use="an adapter is merged into")
        merged = adapt(info.config, info.tensors, adapter, verify=verify)
        return replace(info, config=merged.config, tensors=merged.tensors)
    contents = read_contents(directory, base=base, tower=tower)
    names = detect_names(contents.tensor_names, where=str(directory))
    try:
        if names is None:
            config = ModelConfig.from_dict(dict(contents.values))
        else:
            config = read_config(contents, names)
    except (ConfigError, CheckpointError, TypeError, ValueError) as error:
        raise CheckpointError(f"{directory}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError) as error:
        raise CheckpointError(
            f"{directory}: config.json holds a value of the wrong kind ({error!r}); fetch it again"
        ) from error
    tensors = match_tensors(config, contents, names, where=str(directory))
    if is_packaged(directory) and (directory / ADAPTERS).is_dir():
        tensors = adapt(config, tensors, directory / ADAPTERS, verify=verify).tensors
    texts = base if base and not (directory / "tokenizer.json").is_file() else directory
    return CheckpointInfo(
        directory=directory,
        names=names,
        config=config,
        tensors=tensors,
        texts=texts,
        scheme=contents.scheme,
    )


def check_plain(info: CheckpointInfo, *, use: str) -> None:
    """Raises CheckpointError if weights are quantised, which `use` cannot take."""
    if info.scheme is not None:
        raise CheckpointError(
            f"{info.directory}: its weights are quantised, {info.scheme.describe()}; {use} those "
            "of the original checkpoint: give that one"
        )


def load_network(
    info: CheckpointInfo,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    in_memory: bool = False,
    verify: bool = True,
    keep_int4: bool = False,
    network: LlavaNetwork | None = None,
) -> LlavaNetwork:
    """Builds the network and fills it as `fill_network` does. Raises CheckpointError.

    With `verify`, files must also have their checksums. A `network` without memory is filled if
    given.
    """
    with without_memory():
        network = network or LlavaNetwork(info.config)
    with verifying(info.tensors.values()) if verify else nullcontext():
        fill_network(
            network, info, dtype=dtype, device=device, in_memory=in_memory, verify=verify,
            keep_int4=keep_int4,
        )  # fmt: skip
    return network


def fill_network(
    network: LlavaNetwork,
    info: CheckpointInfo,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str,
    in_memory: bool,
    verify: bool,
    keep_int4: bool = False,
) -> None:
    """Fills a network without memory tensor by tensor, without a second copy of the weights.

    `dtype` None keeps the type of each tensor. One that needs no conversion stays mapped from its
    file unless `in_memory` is set. Where int8 arithmetic runs, on a CPU or a GPU, weights that are
    stored for it become `Int8Linear` layers, and with `keep_int4` those of 4 bits `Int4Linear`
    layers, if they fit; other quantised weights are multiplied out. With `verify`, every weight is
    read once and must be finite; checksums are not compared here. Raises CheckpointError, and
    InputError if `keep_int4` has nothing to keep in a file of 4 bits.
    """
    kept = _kept_weights(info, network, device=device, keep_int4=keep_int4)
    for ours, stored in kept.items():
        name = ours.removesuffix(".weight")
        _keep_quantised(network, name, stored, device=device, in_memory=in_memory)
    for ours, stored in info.tensors.items():
        if ours in kept:
            continue
        if verify:  # of a mapping of its own, whose pages are given back
            check_finite(stored.read(), stored.name, where=stored.path)
        tensor = stored.read().to(device=device, dtype=dtype, copy=in_memory)
        # In the one module: looking for the name in all of them takes seconds for all tensors.
        owner, _, own = ours.rpartition(".")
        part = network.get_submodule(owner)
        part.load_state_dict({own: tensor}, strict=False, assign=True)
    if info.config.language.tie_embeddings:
        network.language_model.head.weight = network.language_model.embedding.weight
    network.eval()


def _kept_weights(
    info: CheckpointInfo, network: LlavaNetwork, *, device: torch.device | str, keep_int4: bool
) -> dict[str, QuantisedTensor]:
    """Returns the weights of linear layers that stay in the integers of the file, by our names."""
    if info.scheme is None or torch.device(device).type not in DEVICES:
        return {}
    linear = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    quantised = {n: t for n, t in info.tensors.items() if isinstance(t, QuantisedTensor)}
    kept = {
        name: stored
        for name, stored in quantised.items()
        if name in linear
        and (stored.scheme.has_int8_activations or (keep_int4 and stored.fits_int4))
    }
    if keep_int4 and not kept and info.scheme.bits == 4:
        raise InputError(
            f"{info.directory}: quantize='int4' keeps weights of 4 bits in groups of {GROUP} "
            f"inputs or more, without act-order; these are {info.scheme.describe()}: leave it out, "
            "or take 'int8'"
        )
    return kept


def _keep_quantised(
    network: LlavaNetwork,
    name: str,
    stored: QuantisedTensor,
    *,
    device: torch.device | str,
    in_memory: bool,
) -> None:
    """Puts a quantised layer in the place of a plain one, whose bias is filled later."""
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    if stored.scheme.has_int8_activations:
        weight, scale = (tensor.to(device) for tensor in stored.read_int8())
        if in_memory:
            weight = weight.clone()
        kept = Int8Linear.from_quantized(weight=weight, scale=scale, bias=layer.bias)
    else:
        numbers, scale, middle = (tensor.to(device) for tensor in stored.read_int4())
        kept = Int4Linear(numbers=numbers, scale=scale, middle=middle, bias=layer.bias)
    network.set_submodule(name, kept)


def use_stored_embedding(
    network: LlavaNetwork, info: CheckpointInfo, *, in_memory: bool = False
) -> None:
    """Keeps the embedding in the type of its file, and mapped from it, for inference on a CPU.

    Only the pages of a mapped tensor that are touched occupy memory: of the embedding (half a GiB
    for 0.5B in fp32) the rows that are looked up. With `in_memory` it is read and depends on no
    file. A tied head gets a weight of its own, so the two can no longer be trained as one. An
    embedding that adapters change is left alone.
    """
    decoder, embedding = network.language_model, info.tensors[EMBEDDING]
    if decoder.device.type != "cpu" or embedding.change is not None:
        return
    stored = embedding.read()
    if in_memory:
        narrower = min(stored.dtype, decoder.dtype, key=lambda dtype: dtype.itemsize)
        stored = stored.to(narrower, copy=True)
    elif info.config.language.tie_embeddings and stored.dtype == decoder.dtype:
        decoder.head.weight = nn.Parameter(embedding.read(), requires_grad=False)
    decoder.add_module("embedding", StoredEmbedding(stored, dtype=decoder.dtype))


def load_tokenizer(info: CheckpointInfo) -> Tokenizer:
    """Reads the tokenizer of a checkpoint, whose ids must have rows. Raises CheckpointError."""
    tokenizer, rows = Tokenizer.from_directory(info.texts), info.config.language.vocab_size
    if tokenizer.size > rows:
        raise CheckpointError(
            f"{info.texts}: the tokenizer has {tokenizer.size} entries, the embedding {rows} rows; "
            "use the tokenizer that came with the weights"
        )
    return tokenizer


def load_defaults(info: CheckpointInfo, tokenizer: Tokenizer) -> GenerationDefaults:
    """Reads the generation defaults, whose end ids must have rows. Raises CheckpointError."""
    defaults, rows = load_generation(info.texts, tokenizer), info.config.language.vocab_size
    if beyond := [i for i in defaults.end_ids if not 0 <= i < rows]:
        raise CheckpointError(
            f"{info.texts}/generation_config.json: eos_token_id {beyond[0]} is not in the "
            f"vocabulary; expected 0 to {rows - 1}: use the file that came with the weights"
        )
    return defaults


def load_generation(directory: Path, tokenizer: Tokenizer) -> GenerationDefaults:
    """Reads generation_config.json; without one, answers end with the tokenizer's end tokens.

    Raises CheckpointError.
    """
    path = directory / "generation_config.json"
    values: dict[str, Any] = read_json(path) if path.exists() else {}  # Any: foreign JSON
    ends = values.get("eos_token_id")
    added = tokenizer.added_tokens
    if ends is None:
        ends = [added[token] for token in (IM_END, END_OF_TEXT, END) if token in added]
    ends = list(ends) if isinstance(ends, list) else [ends]
    for token_id in ends:
        if type(token_id) is not int or not 0 <= token_id < tokenizer.size:
            raise CheckpointError(
                f"{path}: eos_token_id is {values['eos_token_id']!r}; expected a token id below "
                f"{tokenizer.size}, such as 151645 without quotes, or a list of them"
            )
    # Llama-3's config lists the end of a text alone; a turn ends with another token.
    ends += [added[token] for token in (TURN_END,) if token in added and added[token] not in ends]
    penalty = values.get("repetition_penalty")
    if penalty is None:
        penalty = 1.0
    if type(penalty) not in (int, float) or not 0 < penalty < math.inf:
        raise CheckpointError(
            f"{path}: repetition_penalty is {penalty!r}; expected a positive number, such as 1.05"
        )
    return GenerationDefaults(end_ids=tuple(ends), repetition_penalty=float(penalty))
