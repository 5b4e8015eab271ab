"""Safetensors files of a checkpoint directory: reading headers and tensors, writing shards.

Safetensors only: pickled weights (.bin, .pt) can run code when opened, and are refused.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onevision.config import FORMAT_VERSION
from onevision.errors import CheckpointError
from onevision.files import atomic_path, write_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth")
MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True, kw_only=True)
class TensorFiles:
    """The tensors of one or more files: where they are, their shapes and sizes."""

    homes: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    num_bytes: Mapping[str, int]
    # Names inside the files, for tensors that are renamed here.
    stored_names: Mapping[str, str] = field(default_factory=dict[str, str])
    # What is added to a tensor as it is read, such as a LoRA adapter.
    deltas: Mapping[str, Callable[[], Tensor]] = field(
        default_factory=dict[str, Callable[[], Tensor]]
    )

    def read(self, key: str) -> Tensor:
        """Return one tensor, mapped from its file where possible."""
        with safe_open(self.homes[key], framework="pt") as file:
            tensor = file.get_tensor(self.stored_names.get(key, key))
        if key not in self.deltas:
            return tensor
        return (tensor.float() + self.deltas[key]()).to(tensor.dtype)

    def select(self, names: Mapping[str, str]) -> "TensorFiles":
        """Return the tensors listed in `names` (new name -> old name), renamed."""
        return TensorFiles(
            homes={new: self.homes[old] for new, old in names.items()},
            shapes={new: self.shapes[old] for new, old in names.items()},
            num_bytes={new: self.num_bytes[old] for new, old in names.items()},
            stored_names={new: self.stored_names.get(old, old) for new, old in names.items()},
        )

    def update(self, other: "TensorFiles") -> "TensorFiles":
        """Return these tensors and those of `other`, which win."""
        return TensorFiles(
            homes={**self.homes, **other.homes},
            shapes={**self.shapes, **other.shapes},
            num_bytes={**self.num_bytes, **other.num_bytes},
            stored_names={**self.stored_names, **other.stored_names},
            deltas={**self.deltas, **other.deltas},
        )


def find_tensors(directory: Path) -> TensorFiles:
    """List the tensors of a checkpoint from its headers. Raises CheckpointError."""
    return list_tensors(_weight_files(directory))


def list_tensors(paths: Sequence[Path]) -> TensorFiles:
    """List the tensors of files from their headers. Raises CheckpointError."""
    homes: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    num_bytes: dict[str, int] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 not a mapping
                    part = file.get_slice(key)
                    homes[key], shapes[key] = path, tuple(part.get_shape())
                    num_bytes[key] = _item_size(part.get_dtype()) * _product(shapes[key])
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a readable safetensors file ({error}); download or copy it again"
            ) from error
    return TensorFiles(homes=homes, shapes=shapes, num_bytes=num_bytes)


def read_json(path: Path) -> dict[str, Any]:  # Any: foreign JSON
    """Read a JSON object. Raises CheckpointError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; is this a checkpoint directory?") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; expected an object")
    return values


def write_shards(
    directory: Path, sizes: Mapping[str, int], tensor: Callable[[str], Tensor]
) -> None:
    """Write the tensors named in `sizes` (bytes each), fetched one shard at a time."""
    shards: list[list[str]] = [[]]
    room = MAX_SHARD_BYTES
    for name in sorted(sizes):
        if shards[-1] and sizes[name] > room:
            shards.append([])
            room = MAX_SHARD_BYTES
        shards[-1].append(name)
        room -= sizes[name]
    metadata = {"format": "pt", "format_version": str(FORMAT_VERSION)}
    if len(shards) == 1:
        save_tensors({n: tensor(n) for n in shards[0]}, directory / SINGLE, metadata=metadata)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_tensors({n: tensor(n) for n in names}, directory / file, metadata=metadata)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    write_json(directory / INDEX, index)


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all. Raises OSError, SafetensorError."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as partial:
        save_file(contiguous, partial, dict(metadata) if metadata else None)


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a directory to fill that becomes `path` only when all went well.

    Raises CheckpointError where `path` already holds something, unless it may be replaced.
    """
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; give the name of a new directory")
    if not replace and path.is_dir() and any(path.iterdir()):
        raise CheckpointError(f"{path}: exists and is not empty; give the name of a new directory")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        partial.rename(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _weight_files(directory: Path) -> list[Path]:
    index = directory / INDEX
    if index.is_file():
        names = set(read_json(index).get("weight_map", {}).values())
        missing = sorted(name for name in names if not (directory / name).is_file())
        if missing:
            raise CheckpointError(
                f"{directory / missing[0]}: this shard is missing ({len(missing)} of "
                f"{len(names)} are); download or copy it again"
            )
        return sorted(directory / name for name in names)
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    refuse_pickles(directory)
    raise CheckpointError(f"{directory}: no weights; expected {SINGLE} or {INDEX}")


def refuse_pickles(directory: Path) -> None:
    """Name a file of pickled weights that lies in `directory`. Raises CheckpointError."""
    pickles = sorted(path for suffix in PICKLES for path in directory.glob(f"*{suffix}"))
    if pickles:
        raise CheckpointError(
            f"{pickles[0]}: pickled weights can run code and are not opened; expected safetensors: "
            f"`onevision unpickle {directory} NEW_DIRECTORY` writes them, reading tensors alone"
        )


def _item_size(dtype: str) -> int:
    """Return the bytes of one element of a safetensors type such as "BF16"."""
    return torch.empty(0, dtype=DTYPES[dtype]).element_size() if dtype in DTYPES else 8


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
