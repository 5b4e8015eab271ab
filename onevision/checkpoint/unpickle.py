"""Pickled weights -> safetensors. The only file that opens a pickle, and it reads tensors alone.

torch's restricted unpickler builds tensors and plain containers and refuses everything else, so a
file that would run code ends in an error that names it.
"""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.adapters import ADAPTER
from onevision.checkpoint.files import INDEX, PICKLES, SINGLE, new_directory, save_tensors
from onevision.errors import CheckpointError
from onevision.files import write_json

# Files of a whole model, one or several; others, such as mm_projector.bin, keep their names.
WHOLE = "pytorch_model"
# A file of this kind, given alone, is a whole model of any name, such as an EfficientNet-Lite.
ALONE = ".pth"
KEPT = ("*.json", "*.model", "*.jinja", "*.txt", "*.md", "LICENSE*", ADAPTER)
# What trainers leave beside weights: settings, optimisers and random states, never read.
STATES = ("training_args", "optimizer", "scheduler", "scaler", "rng_state*")


def unpickle(source: Path, destination: Path) -> int:
    """Writes the tensors of a pickled checkpoint, or of one file, to a new directory.

    Returns their number. Texts beside them are copied. Raises CheckpointError for a file that holds
    anything but named tensors.
    """
    paths = [source] if source.is_file() else _pickles(source)
    if not paths:
        raise CheckpointError(f"{source}: no pickled weights ({', '.join(PICKLES)}) in it")
    parts = [path for path in paths if path.name.startswith(WHOLE)]
    if source.is_file() and source.suffix == ALONE:
        parts = paths
    homes: dict[str, str] = {}
    count = 0
    with new_directory(destination) as partial:
        for path in paths:
            name = _new_name(path, parts)
            tensors = _read(path)
            twice = homes.keys() & tensors.keys() if path in parts else ()
            if twice:
                raise CheckpointError(
                    f"{path}: {min(twice)} is in {homes[min(twice)]} too; "
                    "remove the file that is out of date"
                )
            save_tensors(tensors, partial / name, metadata={"format": "pt"})
            count += len(tensors)
            if path in parts:
                homes |= dict.fromkeys(tensors, name)
        if len(parts) > 1:
            index: dict[str, dict[str, str]] = {"metadata": {}, "weight_map": homes}
            write_json(partial / INDEX, index)
        if source.is_dir():
            _copy_texts(source, partial)
    return count


def _pickles(directory: Path) -> list[Path]:
    found = sorted(p for suffix in PICKLES for p in directory.glob(f"*{suffix}"))
    return [path for path in found if not any(fnmatch(path.stem, name) for name in STATES)]


def _new_name(path: Path, parts: list[Path]) -> str:
    if path not in parts:
        return f"{path.stem}.safetensors"
    if len(parts) == 1:
        return SINGLE
    return f"model-{parts.index(path) + 1:05}-of-{len(parts):05}.safetensors"


def _read(path: Path) -> dict[str, Tensor]:
    """Reads one file; every tensor gets memory of its own, as safetensors requires."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        reason = _reason(error)
        raise CheckpointError(f"{path}: not weights alone ({reason}); nothing was run") from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise CheckpointError(f"{path}: holds {type(found).__name__}; expected tensors by name")
    strange = next((name for name in found if not isinstance(name, str)), None)
    if strange is not None:
        raise CheckpointError(
            f"{path}: a tensor is named {strange!r} ({type(strange).__name__}); expected text"
        )
    return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def _reason(error: Exception) -> str:
    """Returns what stopped the unpickler, without torch's advice to switch its protection off."""
    text = str(error).strip()
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it names {found[1]}"
    return text.splitlines()[0] if isinstance(error, OSError) else "no pickle of tensors"


def _copy_texts(source: Path, destination: Path) -> None:
    for pattern in KEPT:
        for path in source.glob(pattern):
            written = (destination / path.name).exists()
            if not path.name.endswith(".bin.index.json") and not written:
                shutil.copyfile(path, destination / path.name)
