"""Released language model or vision encoder -> the part of a network that training starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from onevision.checkpoint.adapted import TIED_HEAD
from onevision.checkpoint.files import StoredTensor, check_finite, find_tensors
from onevision.checkpoint.names import ALONE, LMMS_LAB, PROBE, TensorNames, foreign_name
from onevision.checkpoint.parts import efficientnet
from onevision.checkpoint.quantised import check_dtype, refuse_quantised
from onevision.errors import CheckpointError
from onevision.model.convnet import ConvNet
from onevision.model.llava import LlavaNetwork


def load_language_model(network: LlavaNetwork, directory: Path) -> None:
    """Fills the language model from a Qwen, LLaMA or Mistral checkpoint. Raises CheckpointError."""
    _fill(network, find_language_model(network, directory))


def load_vision_encoder(network: LlavaNetwork, directory: Path) -> None:
    """Fills the vision encoder from a SigLIP, CLIP or EfficientNet-Lite checkpoint.

    Blocks that the network does not have are skipped: released SigLIPs use all but the last. Raises
    CheckpointError.
    """
    _fill(network, find_vision_encoder(network, directory))


def find_language_model(network: LlavaNetwork, directory: Path) -> dict[str, StoredTensor]:
    """Returns the stored tensor of each parameter of the language model, by its full name.

    Parameters may be without memory. Raises CheckpointError.
    """
    return _find(network, "language_model", directory)


def find_vision_encoder(network: LlavaNetwork, directory: Path) -> dict[str, StoredTensor]:
    """Returns the stored tensor of each parameter of the vision encoder, by its full name.

    As `find_language_model`. The folded convolutions of an EfficientNet-Lite are in memory.
    """
    tensors = find_tensors(directory)
    if isinstance(network.vision_encoder, ConvNet) and efficientnet.PROBE in tensors:
        return _find_trunk(network.vision_encoder, tensors, directory)
    return _find(network, "vision_encoder", directory)


@dataclass(frozen=True, kw_only=True)
class ComputedTensor(StoredTensor):
    """A tensor that was computed from stored ones."""

    value: Tensor

    def read(self) -> Tensor:
        """Returns the tensor."""
        return self.value


def _fill(network: LlavaNetwork, tensors: Mapping[str, StoredTensor]) -> None:
    parameters = dict(network.named_parameters())
    for name, stored in tensors.items():
        tensor = stored.read()
        check_finite(tensor, stored.name, where=stored.path)
        with torch.no_grad():
            parameters[name].copy_(tensor)


def _find_trunk(
    trunk: ConvNet, tensors: Mapping[str, StoredTensor], directory: Path
) -> dict[str, StoredTensor]:
    convolutions = [name for name, part in trunk.named_modules() if isinstance(part, nn.Conv2d)]
    folded = efficientnet.fold_norms(tensors, convolutions, where=directory)
    found: dict[str, StoredTensor] = {}
    for name, parameter in trunk.named_parameters():
        value = folded[name]
        if value.shape != parameter.shape:
            raise _misfit(directory, name, value.shape, parameter)
        found[f"vision_encoder.{name}"] = ComputedTensor(
            path=directory, name=name, shape=tuple(value.shape), num_bytes=value.nbytes,
            dtype="F32", value=value,
        )  # fmt: skip
    return found


def _find(network: LlavaNetwork, part: str, directory: Path) -> dict[str, StoredTensor]:
    tensors = find_tensors(directory)
    refuse_quantised({}, tensors, where=str(directory))
    names = _names(tensors, part, directory)
    found: dict[str, StoredTensor] = {}
    for name, parameter in network.get_submodule(part).named_parameters():
        full = f"{part}.{name}"
        key = foreign_name(full, names)
        if key not in tensors and full == TIED_HEAD:
            key = foreign_name(f"{part}.embedding.weight", names)
        if key not in tensors:
            raise CheckpointError(f"{directory}: the tensor {key} is missing; fetch it again")
        if tensors[key].shape != tuple(parameter.shape):
            raise _misfit(directory, key, tensors[key].shape, parameter)
        check_dtype(tensors[key], where=str(directory))
        found[full] = tensors[key]
    return found


def _names(tensors: Mapping[str, StoredTensor], part: str, directory: Path) -> TensorNames | None:
    """Returns the naming of a checkpoint: None, our own, if one of our stages wrote it."""
    if any(name.startswith(f"{part}.") for name in tensors):
        return None
    probes = {"language_model": "language_model.norm.weight", "vision_encoder": PROBE}
    for names in (ALONE, LMMS_LAB):
        if foreign_name(probes[part], names) in tensors:
            return names
    expected = {
        "language_model": "Qwen, LLaMA or Mistral",
        "vision_encoder": "SigLIP, CLIP or EfficientNet-Lite",
    }[part]
    raise CheckpointError(
        f"{directory}: no {part.replace('_', ' ')} in it (for instance "
        f"{min(tensors, default='nothing')}); give a released {expected} checkpoint"
    )


def _misfit(
    directory: Path, key: str, found: tuple[int, ...], parameter: nn.Parameter
) -> CheckpointError:
    return CheckpointError(
        f"{directory}: {key} has shape {tuple(found)}, this model needs {tuple(parameter.shape)}; "
        "give the part of the same size"
    )
