"""The snapshots of a run -> the newest whole one, and its tensors, on any number of ranks.

    step-00000120/
        rank-0-of-2.safetensors   this rank's rows of every weight and optimiser moment, its RNG
        rank-0-of-2.json          the SHA-256 of that file
        state.json                step, samples and whatever else the trainer counts
        manifest.json             size and SHA-256 of all files above; written last

On a disk a snapshot is written under a temporary name, flushed and renamed; in an object store it
is whole once its manifest is there (saving/draft.py). Only then are older ones deleted. Nothing in
it can run code.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onevision.checkpoint.streamed.reader import TensorEntry, read_header
from onevision.errors import CheckpointError
from onevision.train.saving.place import Place, read_range, remove, restoring, size_of

MANIFEST, STATE = "manifest.json", "state.json"
FORMAT_VERSION = 1
BLOCK_BYTES = 1 << 20
NAME = re.compile(r"step-\d{8,}")

# Any: what a trainer counts (steps, samples, positions of logs) is plain JSON.
State = Mapping[str, Any]


def snapshots(directory: Place) -> list[Place]:
    """Returns the snapshots of a run, oldest first, unverified."""
    found = [path for path in directory.glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(snapshot: Place) -> int:
    """Returns the step in a snapshot's name."""
    return int(snapshot.name.removeprefix("step-"))


def newest_snapshot(directory: Place, *, warn: Callable[[str], object]) -> Place | None:
    """Returns the newest snapshot whose files match its manifest; warns of broken ones."""
    for path in reversed(snapshots(directory)):
        problem = find_damage(path)
        if problem is None:
            return path
        warn(f"{path}: {problem}; an older snapshot is used")
    return None


def find_damage(snapshot: Place) -> str | None:
    """Compares every file with the manifest; returns the first problem, or None.

    In an object store, which checks its content itself, sizes are compared and nothing is fetched.
    Raises OSError if a store cannot be asked: then a snapshot may well be whole.
    """
    try:
        files = json.loads((snapshot / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            size = size_of(snapshot / name)
            if size != expected["bytes"]:
                return f"{name} has {size:,} bytes instead of {expected['bytes']:,}"
            if isinstance(snapshot, Path) and _sha256(snapshot / name) != expected["sha256"]:
                return f"{name} is damaged (its SHA-256 differs)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        is_known = isinstance(snapshot, Path) or not isinstance(error, OSError)
        if not (is_known or isinstance(error, FileNotFoundError)):
            raise
        return f"incomplete ({error})"
    return None


def prune(directory: Place, *, keep: int, newest: Place) -> None:
    """Deletes all but `keep` snapshots up to `newest`, which is whole.

    Later ones are broken, or the run would have resumed from them; they go too, as does what an
    interrupted write has left.
    """
    found = snapshots(directory)
    good = [path for path in found if step_of(path) <= step_of(newest)]
    broken = [path for path in found if step_of(path) > step_of(newest)]
    for path in [*good[:-keep], *broken, *directory.glob("step-*.part")]:
        remove_snapshot(path)


def read_state(snapshot: Place) -> dict[str, Any]:
    """Returns the trainer's counts and the digests of its content."""
    with restoring(snapshot):
        return json.loads((snapshot / STATE).read_text(encoding="utf-8"))


class SnapshotReader:
    """Reads tensors of a snapshot, whole or some rows, whichever ranks wrote them."""

    def __init__(self, snapshot: Place) -> None:
        self.snapshot = snapshot
        # Of each share of a tensor: its first row and column, its file, its place there.
        self._places: dict[str, list[tuple[int, int, Place, TensorEntry]]] = {}
        with restoring(snapshot):
            found = sorted(snapshot.glob("rank-*.safetensors"), key=str)
        for path in found:
            header = read_header(partial(read_range, path))
            for name, entry in header.tensors.items():
                row, _, column = header.metadata[name].partition(",")
                place = (int(row), int(column or 0), path, entry)
                self._places.setdefault(name, []).append(place)
        for places in self._places.values():
            places.sort(key=lambda one: (*one[:2], str(one[2])))

    def names(self) -> list[str]:
        """Returns the names of all tensors."""
        return sorted(self._places)

    def rows(self, name: str, *, first: int = 0, count: int | None = None) -> Tensor:
        """Returns rows `first` to `first + count` of a tensor, joined from the ranks' shares.

        Raises CheckpointError if the snapshot lacks the tensor.
        """
        if name not in self._places:
            raise CheckpointError(
                f"{self.snapshot}: it has no tensor {name!r}; is it of another model?"
            )
        bands: dict[int, list[Tensor]] = {}  # shares that begin with the same row
        for begin, _, path, entry in self._places[name]:
            end = begin + entry.shape[0]
            low, high = max(first, begin), end if count is None else min(first + count, end)
            if low < high:
                rows = entry.read_rows(partial(read_range, path), low - begin, high - low)
                bands.setdefault(begin, []).append(rows)
        if not bands:
            _, _, path, entry = self._places[name][0]
            return entry.read_rows(partial(read_range, path), 0, 0)
        pieces = [torch.cat(band, dim=1) if len(band) > 1 else band[0] for band in bands.values()]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def name_of(step: int) -> str:
    """Returns the name of the snapshot of a step."""
    return f"step-{step:08d}"


def remove_snapshot(path: Place) -> None:
    """Deletes a snapshot, or what there is of it; it stops being whole first."""
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
        return
    remove(path / MANIFEST)
    remove(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
