"""Safetensors files of a checkpoint directory: reading headers and tensors, writing shards.

Safetensors only: pickled weights (.bin, .pt) can run code when opened, and are refused.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onevision.checkpoint.parts.mapped import DTYPES, can_map, map_tensor, read_begins
from onevision.config import FORMAT_VERSION
from onevision.errors import CheckpointError
from onevision.files import atomic_path, write_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth")
# Far above the largest tokenizer.json.
MAX_JSON_BYTES = 1 << 28
MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor in a file, described by the file's header."""

    path: Path
    name: str  # inside the file
    shape: tuple[int, ...]
    num_bytes: int
    dtype: str  # as the header spells it, such as "BF16"
    # What an adapter makes of it as it is read; the result gets the type of the file.
    change: Callable[[Tensor], Tensor] | None = None
    # Which rows of the tensor in the file are meant; None for all. `shape` is theirs.
    first_row: int | None = None
    # Where its bytes begin in the file; None if safetensors must find them.
    first_byte: int | None = None

    def rows(self, number: int, *, of: int) -> "StoredTensor":
        """Returns one of equal parts of the tensor. Raises CheckpointError if it has none."""
        count, rest = divmod(self.shape[0], of)
        if rest:
            raise CheckpointError(
                f"{self.path}: tensor {self.name} is {list(self.shape)}; expected {of} equal parts"
            )
        return replace(
            self,
            shape=(count, *self.shape[1:]),
            num_bytes=self.num_bytes // of,
            first_row=number * count,
        )

    def read(self) -> Tensor:
        """Returns the tensor, mapped from its file if nothing changes it.

        Raises CheckpointError.
        """
        begin, is_whole = self.first_byte, self.first_row is None
        if begin is not None and is_whole and can_map(self.dtype, self.shape, begin):
            tensor = map_tensor(
                self.path, self.name, dtype=self.dtype, shape=self.shape, begin=begin
            )
        else:
            with safe_open(self.path, framework="pt") as file:
                if self.first_row is None:
                    tensor = file.get_tensor(self.name)
                else:
                    last = self.first_row + self.shape[0]
                    tensor = file.get_slice(self.name)[self.first_row : last]
        return tensor if self.change is None else self.change(tensor).to(tensor.dtype)

    def read_rows(self, first: int, count: int) -> Tensor:
        """Returns `count` rows from `first` on; only their bytes are read if nothing changes them.

        A tensor that is changed, or stored in parts, is read whole first.
        """
        if type(self) is not StoredTensor or self.change is not None or not self.shape:
            return self.read()[first : first + count] if self.shape else self.read()
        begin = first + (self.first_row or 0)
        with safe_open(self.path, framework="pt") as file:
            return file.get_slice(self.name)[begin : begin + count]


def find_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Lists the tensors of a checkpoint by name. Raises CheckpointError."""
    return list_tensors(_weight_files(directory))


def list_tensors(paths: Sequence[Path]) -> dict[str, StoredTensor]:
    """Lists the tensors of files by name, from their headers. Raises CheckpointError."""
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:  # checks the header as a whole
                begins = read_begins(path)
                for name in file.keys():  # noqa: SIM118 not a mapping
                    header = file.get_slice(name)
                    shape = tuple(header.get_shape())
                    num_bytes = _item_size(header.get_dtype()) * math.prod(shape)
                    if name in tensors:
                        raise CheckpointError(
                            f"{path}: {name} is in {tensors[name].path.name} too; "
                            "remove the file that is out of date"
                        )
                    tensors[name] = StoredTensor(
                        path=path,
                        name=name,
                        shape=shape,
                        num_bytes=num_bytes,
                        dtype=header.get_dtype(),
                        first_byte=begins.get(name),
                    )
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a readable safetensors file ({error}); download or copy it again"
            ) from error
    return tensors


def read_json(path: Path) -> dict[str, Any]:  # Any: foreign JSON
    """Reads a JSON object. Raises CheckpointError."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise CheckpointError(f"{path}: not a regular file; download or copy it again")
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: {size} bytes; expected at most {MAX_JSON_BYTES}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; is this a checkpoint directory?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; expected an object")
    return values


def check_finite(tensor: Tensor, name: str, *, where: Path) -> None:
    """Raises CheckpointError if a tensor holds NaN or an infinity; needs no memory of its own."""
    if not tensor.numel() or not tensor.is_floating_point():
        return
    low, high = torch.aminmax(tensor)
    if not (math.isfinite(low.item()) and math.isfinite(high.item())):
        raise CheckpointError(
            f"{where}: tensor {name} holds NaN or infinite numbers; download or copy it again, or "
            "take an earlier checkpoint of the run that wrote it"
        )


def write_shards(
    directory: Path, sizes: Mapping[str, int], tensor: Callable[[str], Tensor]
) -> None:
    """Writes the tensors named in `sizes` (bytes each), fetched one shard at a time."""

    def write(names: Sequence[str], path: Path, metadata: Mapping[str, str]) -> None:
        save_tensors({name: tensor(name) for name in names}, path, metadata=metadata)

    divide_among_files(directory, {name: sizes[name] for name in sorted(sizes)}, write)


def divide_among_files(
    directory: Path,
    sizes: Mapping[str, int],
    write: Callable[[Sequence[str], Path, Mapping[str, str]], object],
) -> None:
    """Divides tensors (bytes each), in their order, among files of a checkpoint, and lists them.

    `write` takes the names for one file, its path and its metadata.
    """
    shards: list[list[str]] = [[]]
    room = MAX_SHARD_BYTES
    for name, size in sizes.items():
        if shards[-1] and size > room:
            shards.append([])
            room = MAX_SHARD_BYTES
        shards[-1].append(name)
        room -= size
    metadata = {"format": "pt", "format_version": str(FORMAT_VERSION)}
    if len(shards) == 1:
        write(shards[0], directory / SINGLE, metadata)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write(names, directory / file, metadata)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    write_json(directory / INDEX, index)


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file, whole or not at all. Raises OSError, SafetensorError."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as partial:
        save_file(contiguous, partial, dict(metadata) if metadata else None)


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields a directory to fill, which becomes `path` if nothing is raised.

    Raises CheckpointError if `path` holds anything already, unless it may be replaced.
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
        names = _indexed_files(index)
        if (directory / SINGLE).is_file() and SINGLE not in names:
            raise CheckpointError(
                f"{directory}: holds {SINGLE} and {INDEX}, which names other files; "
                "remove the one that is out of date"
            )
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


def _indexed_files(index: Path) -> set[str]:
    """Returns the files that an index names, all of them in its own directory."""
    homes = read_json(index).get("weight_map")
    if not isinstance(homes, dict) or not homes:
        raise CheckpointError(
            f"{index}: weight_map is {homes!s:.60}; expected file names by tensor: "
            "download or copy it again"
        )
    for name in homes.values():
        if not isinstance(name, str) or name != Path(name).name or "\0" in name:
            raise CheckpointError(
                f"{index}: weight_map names {name!s:.60}; expected the name of a file beside it"
            )
    return set(homes.values())


def find_pickle(directory: Path, stem: str) -> Path | None:
    """Returns the pickled file of this name without its suffix, if there is one."""
    paths = (directory / f"{stem}{suffix}" for suffix in PICKLES)
    return next((path for path in paths if path.is_file()), None)


def refuse_pickles(directory: Path) -> None:
    """Raises CheckpointError if `directory` holds pickled weights, naming a file."""
    pickles = sorted(path for suffix in PICKLES for path in directory.glob(f"*{suffix}"))
    if pickles:
        raise CheckpointError(
            f"{pickles[0]}: pickled weights can run code and are not opened; expected safetensors: "
            f"`onevision unpickle {directory} NEW_DIRECTORY` writes them, reading tensors alone"
        )


def _item_size(dtype: str) -> int:
    """Returns the bytes of one element of a safetensors type such as "BF16"."""
    return torch.empty(0, dtype=DTYPES[dtype]).element_size() if dtype in DTYPES else 8
