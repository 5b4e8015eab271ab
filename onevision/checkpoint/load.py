"""Checkpoint directory of any known layout -> network, config, tokenizer, generation defaults."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onevision.accelerate.stored_embedding import StoredEmbedding
from onevision.checkpoint.adapted import EMBEDDING, TIED_HEAD, adapt, holds_projector
from onevision.checkpoint.checksums import verify_checksums
from onevision.checkpoint.contents import CheckpointContents, read_contents
from onevision.checkpoint.files import StoredTensor, check_finite, read_json
from onevision.checkpoint.names import TensorNames, detect_names, foreign_name
from onevision.checkpoint.quantised import check_dtype
from onevision.checkpoint.read_config import read_config
from onevision.config import ModelConfig
from onevision.errors import CheckpointError, ConfigError
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

    @property
    def layout(self) -> str:
        """The layout's name: onevision, lmms-lab or llava-hf."""
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
    tensors = _match(config, contents, names, where=str(directory))
    texts = base if base and not (directory / "tokenizer.json").is_file() else directory
    return CheckpointInfo(
        directory=directory, names=names, config=config, tensors=tensors, texts=texts
    )


def load_network(
    info: CheckpointInfo,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    in_memory: bool = False,
    verify: bool = True,
) -> LlavaNetwork:
    """Builds the network and fills it tensor by tensor, without a second copy of the weights.

    `dtype` None keeps the type of each tensor. A tensor that needs no conversion stays mapped from
    its file unless `in_memory` is set. With `verify`, every weight is read once and must be
    finite, and files must have their checksums. Raises CheckpointError.
    """
    with torch.device("meta"):
        network = LlavaNetwork(info.config)
    for ours, stored in info.tensors.items():
        if verify:  # of a mapping of its own, whose pages are given back
            check_finite(stored.read(), stored.name, where=stored.path)
        tensor = stored.read().to(device=device, dtype=dtype, copy=in_memory)
        network.load_state_dict({ours: tensor}, strict=False, assign=True)
    if verify:  # last: a number that is not finite says more
        verify_checksums(info.tensors.values())
    if info.config.language.tie_embeddings:
        network.language_model.head.weight = network.language_model.embedding.weight
    return network.eval()


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
    """Reads the generation defaults of a checkpoint, whose end ids must have rows.

    Raises CheckpointError.
    """
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


def _match(
    config: ModelConfig, contents: CheckpointContents, names: TensorNames | None, *, where: str
) -> dict[str, StoredTensor]:
    """Pairs every tensor of the network with a stored one; names and shapes must all match."""
    expected = _expected_tensors(config, num_stored=len(contents.tensor_names), where=where)
    if config.language.tie_embeddings:
        expected.pop(TIED_HEAD)
    stored_names = {ours: foreign_name(ours, names) for ours in expected}
    missing = sorted(set(stored_names.values()) - contents.tensor_names)
    unexpected = sorted(contents.tensor_names - set(stored_names.values()))
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: {len(missing)} tensors are missing{_examples(missing)}, "
            f"{len(unexpected)} are unexpected{_examples(unexpected)}"
        )
    tensors = {ours: contents.tensors[name] for ours, name in stored_names.items()}
    for ours, tensor in tensors.items():
        check_dtype(tensor, where=where)
        if tensor.shape != tuple(expected[ours].shape):
            raise CheckpointError(
                f"{where}: tensor {stored_names[ours]} is {list(tensor.shape)}; "
                f"the config asks for {list(expected[ours].shape)}"
            )
    return tensors


def _expected_tensors(config: ModelConfig, *, num_stored: int, where: str) -> dict[str, Tensor]:
    """Returns the network's tensors without memory behind them, if its size is plausible."""
    vision, language = config.vision, config.language
    num_blocks = vision.num_layers + vision.num_spare_layers + language.num_layers
    if num_blocks + config.projector.num_layers > num_stored:
        raise CheckpointError(
            f"{where}: config.json asks for {num_blocks} blocks, there are {num_stored} tensors; "
            "use the config.json that came with the weights"
        )
    try:
        with torch.device("meta"):
            return LlavaNetwork(config).state_dict()
    except (RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"{where}: config.json describes no network that can be built ({error})"
        ) from error


def _examples(keys: list[str]) -> str:
    if not keys:
        return ""
    more = f", and {len(keys) - 4} more" if len(keys) > 4 else ""
    return f" ({', '.join(keys[:4])}{more})"
