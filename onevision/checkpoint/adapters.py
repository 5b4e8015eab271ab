"""LoRA adapters in PEFT's format -> the tensors of their base, changed as they are read.

Every tensor of the files is applied, or named in an error: what is skipped would give the base's
answers, or something between the two. Layers have the names of whichever layout they were trained
in; they need not be those of the base's own files.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.adapter_config import (
    ADAPTER_CONFIG,
    AdapterConfig,
    read_adapter_config,
)
from onevision.checkpoint.files import (
    StoredTensor,
    check_finite,
    find_pickle,
    list_tensors,
)
from onevision.checkpoint.quantised import check_dtype
from onevision.errors import CheckpointError
from onevision.plural import counted

Tensors = dict[str, StoredTensor]
Change = Callable[[Tensor], Tensor]

ADAPTER = "adapter_model.safetensors"
# What LLaVA-NeXT's own training writes beside its adapters: the projector, and what else trained.
TRAINED_BESIDE = "non_lora_trainables.safetensors"
# What PEFT prepends to the names of the model that it adapts.
PEFT_PREFIX = "base_model.model."
# A tensor of an adapter; "default" is PEFT's name for the only one.
PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))"
    r"(?:\.default)?(?P<kind>\.weight|\.bias|)"
)
# PEFT's wrappers around a module that trained whole, and around a layer with an adapter.
WRAPPERS = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer)(?=\.)")


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The tensors of an adapter: those of adapted layers, and those that trained whole."""

    path: Path
    layers: dict[str, Tensors] = field(default_factory=dict[str, Tensors])
    whole: Tensors = field(default_factory=Tensors)


def add_adapters(
    tensors: Tensors, directory: Path, *, rename: Callable[[str], str] = str
) -> Tensors:
    """Returns the tensors of a base with an adapter's merged into them as they are read.

    `rename` turns a tensor's name in the adapter into its key in `tensors`. Raises CheckpointError.
    """
    config = read_adapter_config(directory / ADAPTER_CONFIG)
    parts = _list_parts(directory)
    changed = dict(tensors)
    for name, tensor in parts.whole.items():
        key = rename(name)
        if key not in tensors:
            raise _unapplied(parts, tensors, rename, config)
        if tensor.shape != tensors[key].shape:
            raise CheckpointError(
                f"{tensor.path}: {name} is {list(tensor.shape)}, the base's is "
                f"{list(tensors[key].shape)}; {_advice(config)}"
            )
        check_dtype(tensor, where=str(tensor.path))
        changed[key] = replace(tensors[key], change=partial(_replace, new=tensor))
    for module, layer in parts.layers.items():  # on what trained whole
        changed |= _adapt(module, layer, changed, config, rename=rename, path=parts.path)
    return changed


def _list_parts(directory: Path) -> _Parts:
    """Sorts the tensors of a directory. Raises CheckpointError for files that are missing."""
    for name in (ADAPTER, TRAINED_BESIDE):
        if not (directory / name).is_file() and (pickle := find_pickle(directory, Path(name).stem)):
            raise CheckpointError(
                f"{pickle}: pickled weights can run code and are not opened; expected {name}: "
                f"`onevision unpickle {directory} NEW_DIRECTORY` writes it, reading tensors alone"
            )
    if not (directory / ADAPTER).is_file():
        raise CheckpointError(f"{directory / ADAPTER}: missing; is the LoRA checkpoint whole?")
    parts = _Parts(path=directory / ADAPTER)
    for name, tensor in list_tensors([parts.path]).items():
        found = PART.fullmatch(name.removeprefix(PEFT_PREFIX))
        if found:
            layer = parts.layers.setdefault(found["module"], {})
            layer[found["part"] + (".bias" if found["kind"] == ".bias" else "")] = tensor
        else:
            parts.whole[WRAPPERS.sub("", name.removeprefix(PEFT_PREFIX))] = tensor
    if (directory / TRAINED_BESIDE).is_file():
        for name, tensor in list_tensors([directory / TRAINED_BESIDE]).items():
            parts.whole[whole_name(name)] = tensor
    return parts


def whole_name(name: str) -> str:
    """Returns a tensor's name in a whole model of the reference: "model.mm_projector.0.weight"."""
    short = name.removeprefix(PEFT_PREFIX)
    return f"model.{short}" if short.startswith("mm_projector") else short


def _adapt(
    module: str,
    layer: Tensors,
    tensors: Tensors,
    config: AdapterConfig,
    *,
    rename: Callable[[str], str],
    path: Path,
) -> Tensors:
    """Returns the tensors of the base that one layer's adapter changes. Raises CheckpointError."""
    layer = dict(layer)
    first, second = "lora_A", "lora_B"
    if "lora_embedding_A" in layer or "lora_embedding_B" in layer:
        first, second = "lora_embedding_A", "lora_embedding_B"
    lora_a, lora_b = layer.pop(first, None), layer.pop(second, None)
    if lora_a is None or lora_b is None:
        lacking = first if lora_a is None else second
        found = next((t.name for t in (lora_a, lora_b, *layer.values()) if t is not None), module)
        raise CheckpointError(
            f"{path}: {found} has no {module}.{lacking}.weight beside it; fetch it again"
        )
    key = rename(f"{module}.weight")
    if key not in tensors:
        raise CheckpointError(
            f"{path}: {lora_a.name} adapts {module}.weight, which the base lacks; {_advice(config)}"
        )
    embedding = first == "lora_embedding_A"
    _check_shapes(tensors[key], lora_a, lora_b, embedding=embedding, path=path, config=config)
    scale = config.scale_of(module, rank=lora_a.shape[0])
    magnitude = layer.pop("lora_magnitude_vector", None) if config.has_magnitudes else None
    if config.has_magnitudes and (magnitude is None or embedding):
        raise CheckpointError(
            f"{path}: use_dora is true, but {module} "
            f"{'is an embedding' if embedding else 'has no lora_magnitude_vector'}; "
            "merge it with PEFT"
        )
    merge = partial(_merge, lora_a=lora_a, lora_b=lora_b, scale=scale, magnitude=magnitude,
                    embedding=embedding)  # fmt: skip
    changed = {key: _then(tensors[key], merge)}
    bias, key = layer.pop("lora_B.bias", None), rename(f"{module}.bias")
    if bias is not None and key in tensors and tensors[key].shape == bias.shape:
        changed[key] = _then(tensors[key], partial(_add, added=bias, scale=scale))
    elif bias is not None:
        layer["lora_B.bias"] = bias
    if layer:
        raise CheckpointError(
            f"{path}: {counted(len(layer), 'tensor')} of {module} would not be applied (for "
            f"instance {min(t.name for t in layer.values())}); merge it with PEFT"
        )
    return changed


def _check_shapes(
    target: StoredTensor,
    lora_a: StoredTensor,
    lora_b: StoredTensor,
    *,
    embedding: bool,
    path: Path,
    config: AdapterConfig,
) -> None:
    a, b, shape = lora_a.shape, lora_b.shape, target.shape
    if embedding:
        fits = len(a) == len(b) == 2 and a[0] == b[1] and (a[1], b[0]) == shape
    else:  # of a convolution the kernel is flattened
        fits = len(a) >= 2 and len(b) >= 2 and a[0] == math.prod(b[1:]) and b[0] == shape[0]
        fits = fits and math.prod(a[1:]) == math.prod(shape[1:])
    if not fits:
        raise CheckpointError(
            f"{path}: {lora_a.name} {list(lora_a.shape)} and {lora_b.name} {list(lora_b.shape)} do "
            f"not fit {target.name} {list(target.shape)}; {_advice(config)}"
        )
    for tensor in (lora_a, lora_b):
        check_dtype(tensor, where=str(path))


def _unapplied(
    parts: _Parts, tensors: Tensors, rename: Callable[[str], str], config: AdapterConfig
) -> CheckpointError:
    """Returns the error for tensors that are neither an adapter's nor the base's."""
    unused = sorted(name for name in parts.whole if rename(name) not in tensors)
    return CheckpointError(
        f"{parts.path}: not applied: {counted(len(unused), 'tensor')}, neither of a LoRA pair nor "
        f"of the base (for instance {unused[0]}); {_advice(config)}, or merge it with PEFT"
    )


def _advice(config: AdapterConfig) -> str:
    said = f", by its own word {config.base_model!r}" if config.base_model else ""
    return f"give the model that it was trained on{said}"


def _merge(
    weight: Tensor,
    *,
    lora_a: StoredTensor,
    lora_b: StoredTensor,
    scale: float,
    magnitude: StoredTensor | None,
    embedding: bool,
) -> Tensor:
    """Returns W + scale B A in fp32; with DoRA, each row scaled to its learned length.

    As PEFT merges them: the length of a row is that of the sum.
    """
    a, b = _read(lora_a).flatten(1), _read(lora_b).flatten(1)
    added = (b @ a).T if embedding else b @ a
    merged = weight.float() + (added * scale).view_as(weight)
    if magnitude is None:
        return merged
    lengths = torch.linalg.norm(merged.flatten(1), dim=1)
    factors = _read(magnitude).flatten() / lengths.where(lengths > 0, 1.0)  # a row of zeros stays
    return factors.view(-1, *[1] * (merged.dim() - 1)) * merged


def _then(tensor: StoredTensor, change: Change) -> StoredTensor:
    """Returns the tensor with another change after those that it has."""
    if tensor.change is None:
        return replace(tensor, change=change)
    return replace(tensor, change=partial(_compose, first=tensor.change, second=change))


def _compose(tensor: Tensor, *, first: Change, second: Change) -> Tensor:
    return second(first(tensor))


def _add(bias: Tensor, *, added: StoredTensor, scale: float) -> Tensor:
    return bias.float() + scale * _read(added)


def _replace(old: Tensor, *, new: StoredTensor) -> Tensor:  # noqa: ARG001 what every change takes
    return _read(new)


def _read(tensor: StoredTensor) -> Tensor:
    values = tensor.read().float()
    check_finite(values, tensor.name, where=tensor.path)
    return values
