"""Released language model or vision encoder -> the part of a network that training starts from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from onevision.checkpoint.files import StoredTensor, check_finite, find_tensors
from onevision.checkpoint.load import TIED_HEAD
from onevision.checkpoint.names import LMMS_LAB, TensorNames, foreign_name
from onevision.checkpoint.quantised import check_dtype, refuse_quantised
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork

# On its own, a language model has the names that it has inside LLaVA; those of a tower begin at its
# vision model.
ALONE = replace(LMMS_LAB, layout="released alone", vision="vision_model.")


def load_language_model(network: LlavaNetwork, directory: Path) -> None:
    """Fills the language model from a Qwen, LLaMA or Mistral checkpoint. Raises CheckpointError."""
    _fill(network, "language_model", directory)


def load_vision_encoder(network: LlavaNetwork, directory: Path) -> None:
    """Fills the vision encoder from a SigLIP or CLIP checkpoint. Raises CheckpointError.

    Blocks that the network does not have are skipped: released SigLIPs use all but the last.
    """
    _fill(network, "vision_encoder", directory)


def _fill(network: LlavaNetwork, part: str, directory: Path) -> None:
    tensors = find_tensors(directory)
    refuse_quantised({}, tensors, where=str(directory))
    names = _names(tensors, part, directory)
    for name, parameter in network.get_submodule(part).named_parameters():
        key = foreign_name(f"{part}.{name}", names)
        if key not in tensors and f"{part}.{name}" == TIED_HEAD:
            key = foreign_name(f"{part}.embedding.weight", names)
        _copy(tensors, key, parameter, directory)


def _names(tensors: Mapping[str, StoredTensor], part: str, directory: Path) -> TensorNames | None:
    """Returns the naming of a checkpoint: None, our own, if one of our stages wrote it."""
    probes = {
        "language_model": "language_model.norm.weight",
        "vision_encoder": "vision_encoder.patch_embedding.weight",
    }
    for names in (None, ALONE, LMMS_LAB):
        if foreign_name(probes[part], names) in tensors:
            return names
    expected = "Qwen, LLaMA or Mistral" if part == "language_model" else "SigLIP or CLIP"
    raise CheckpointError(
        f"{directory}: no {part.replace('_', ' ')} in it (for instance "
        f"{min(tensors, default='nothing')}); give a released {expected} checkpoint"
    )


def _copy(
    tensors: Mapping[str, StoredTensor], key: str, parameter: nn.Parameter, directory: Path
) -> None:
    if key not in tensors:
        raise CheckpointError(f"{directory}: the tensor {key} is missing; fetch it again")
    found = tensors[key].shape
    if found != tuple(parameter.shape):
        raise CheckpointError(
            f"{directory}: {key} has shape {found}, this model needs {tuple(parameter.shape)}; "
            "give the part of the same size"
        )
    check_dtype(tensors[key], where=str(directory))
    tensor = tensors[key].read()
    check_finite(tensor, key, where=tensors[key].path)
    with torch.no_grad():
        parameter.copy_(tensor)
