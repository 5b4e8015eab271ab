"""A whole checkpoint and an adapter trained on it -> the tensors and config of the merged model.

An adapter names its layers as the program that trained it does: transformers 4 and 5, the
reference, this package. Every one of those names is looked up.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open

from onevision.checkpoint.adapter_config import ADAPTER_CONFIG, read_adapter_config
from onevision.checkpoint.adapters import ADAPTER, add_adapters
from onevision.checkpoint.files import StoredTensor, find_tensors, read_json
from onevision.checkpoint.names import FOREIGN, PROJECTOR_PROBES
from onevision.config import ModelConfig
from onevision.errors import CheckpointError, ConfigError

# How the adapter's training prepared images and words; PEFT does not read it.
MODEL_CONFIG = "onevision_config.json"
# In the header of the adapter's file: a digest of the base's tensors.
BASE_KEY = "onevision_base"
EMBEDDING, TIED_HEAD = "language_model.embedding.weight", "language_model.head.weight"
FIRST_PROJECTOR = "projector.layers.0.weight"
# Numbers of each tensor that a digest is made of.
NUM_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What a base and its adapter are together."""

    config: ModelConfig
    tensors: Mapping[str, StoredTensor]


def adapt(
    config: ModelConfig, tensors: Mapping[str, StoredTensor], adapter: Path, *, verify: bool
) -> Adapted:
    """Merges an adapter into the tensors of a base, by our names, as they are read.

    With `verify`, an adapter that was trained here must have been trained on these weights. Raises
    CheckpointError if the adapter does not fit, or not every tensor of it would be applied.
    """
    if not adapter.is_dir():
        raise CheckpointError(f"{adapter}: no such adapter; give a directory with {ADAPTER_CONFIG}")
    if verify:
        check_base_of(adapter, tensors)
    config = _read_rules(config, adapter)
    layouts = [one for one in FOREIGN if len(one.projector) >= config.projector.num_layers]
    names = {layout.translate(ours): ours for layout in layouts for ours in tensors}
    # A tied head is the embedding, until one of the two is changed without the other.
    both: dict[str, StoredTensor] = {TIED_HEAD: tensors[EMBEDDING], **tensors}
    names |= {layout.head: TIED_HEAD for layout in FOREIGN}
    merged = add_adapters(both, adapter, rename=lambda name: names.get(name, name))
    if TIED_HEAD in tensors:
        return Adapted(config=config, tensors=merged)
    if _are_one(merged[TIED_HEAD], merged[EMBEDDING]) or _keeps_tied(adapter):
        merged.pop(TIED_HEAD)
        return Adapted(config=config, tensors=merged)
    language = replace(config.language, tie_embeddings=False)
    return Adapted(config=replace(config, language=language), tensors=merged)


def holds_projector(directory: Path) -> bool:
    """Whether a directory holds a model of the family, rather than a language model alone."""
    known = {FIRST_PROJECTOR, *PROJECTOR_PROBES, *(n.translate(FIRST_PROJECTOR) for n in FOREIGN)}
    return not known.isdisjoint(find_tensors(directory))


def digest_base(tensors: Mapping[str, StoredTensor]) -> str:
    """Returns a digest of a model's tensors: names, shapes and 16 numbers of each.

    It is the same in every layout, and for types that hold the same numbers. The vocabulary is
    left out, which some layouts pad.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if name in (EMBEDDING, TIED_HEAD):
            continue
        flat = tensor.read().flatten()
        step = max(1, flat.numel() // NUM_SAMPLES)
        digest.update(f"{name} {tensor.shape} ".encode())
        digest.update(flat[::step].float().numpy().tobytes())
    return digest.hexdigest()[:32]


def _are_one(head: StoredTensor, embedding: StoredTensor) -> bool:
    """Whether the two hold the same numbers; PEFT may write both, changed or not."""
    return head == embedding or torch.equal(head.read(), embedding.read())


def _keeps_tied(adapter: Path) -> bool:
    """Whether PEFT trained embedding and head as one, by `ensure_weight_tying`."""
    return read_json(adapter / ADAPTER_CONFIG).get("ensure_weight_tying") is True


def check_base_of(adapter: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Raises CheckpointError if an adapter says that it was trained on other weights."""
    path = adapter / ADAPTER
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get(BASE_KEY)
    except Exception as error:  # safetensors has several
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    if expected is not None and expected != digest_base(tensors):
        base = read_adapter_config(adapter / ADAPTER_CONFIG).base_model
        raise CheckpointError(
            f"{adapter}: it was trained on other weights than these, by its own word those of "
            f"{base!r}; give that model, or skip the comparison (--no-verify, verify=False)"
        )


def _read_rules(config: ModelConfig, adapter: Path) -> ModelConfig:
    """Returns the base's config, prepared for as the adapter was trained."""
    path = adapter / MODEL_CONFIG
    if not path.exists():
        return config
    try:
        trained = ModelConfig.from_dict(read_json(path))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    inputs = replace(trained.inputs, image_token_id=config.inputs.image_token_id)
    try:
        return replace(config, inputs=inputs)
    except ConfigError as error:
        raise CheckpointError(
            f"{adapter}: it was trained on another model ({error}); give the one it was trained on"
        ) from error
