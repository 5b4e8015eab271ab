"""Tensors and state of a run -> a snapshot to resume from, written whole or not at all; and back.

    step-00000120/
        rank-0-of-2.safetensors   this rank's rows of every weight and optimiser moment, its RNG
        rank-0-of-2.json          the SHA-256 of that file
        state.json                step, samples and whatever else the trainer counts
        manifest.json             size and SHA-256 of all files above; written last

A snapshot is written under a temporary name, flushed to disk and renamed; only then are older ones
deleted. It can be read on any number of ranks. Nothing in it can run code.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onevision.errors import CheckpointError

MANIFEST, STATE = "manifest.json", "state.json"
FORMAT_VERSION = 1
BLOCK_BYTES = 1 << 20
NAME = re.compile(r"step-\d{8,}")

# Any: what a trainer counts (steps, samples, positions of logs) is plain JSON.
State = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """This rank's rows of a tensor whose first axis is sharded, or the whole tensor."""

    rows: Tensor
    first: int = 0  # the index of its first row in the whole tensor


@dataclass(frozen=True, kw_only=True)
class SnapshotWriter:
    """One of the `ranks` that write a snapshot together, in stages."""

    rank: int
    ranks: int
    # Takes this rank's problem; waits for all ranks and returns whether none has one.
    all_succeeded: Callable[[Exception | None], bool]


def write_snapshot(
    directory: Path, step: int, shards: Mapping[str, Shard], state: State, *, writer: SnapshotWriter
) -> Path:
    """Writes the snapshot of `step`, whole or not at all; every rank calls it.

    Raises OSError on every rank, and leaves nothing behind, if any rank could not write.
    """
    target, part = directory / _name(step), directory / f"{_name(step)}.part"
    problem: OSError | None = None

    def attempt(work: Callable[[], None]) -> None:
        nonlocal problem
        try:
            work()
        except (OSError, SafetensorError) as error:
            problem = error if isinstance(error, OSError) else OSError(str(error))
        if not writer.all_succeeded(problem):
            if writer.rank == 0:
                shutil.rmtree(part, ignore_errors=True)
            raise problem or OSError(f"{part}: another rank could not write its share")

    attempt(lambda: _begin(part) if writer.rank == 0 else None)
    attempt(lambda: _write_rank(part, shards, writer))
    attempt(lambda: _finish(part, target, state) if writer.rank == 0 else None)
    return target


def snapshots(directory: Path) -> list[Path]:
    """Returns the snapshots of a run, oldest first, unverified."""
    found = [path for path in directory.glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(snapshot: Path) -> int:
    """Returns the step in a snapshot's name."""
    return int(snapshot.name.removeprefix("step-"))


def newest_snapshot(directory: Path, *, warn: Callable[[str], object]) -> Path | None:
    """Returns the newest snapshot whose files match its manifest; warns of broken ones."""
    for path in reversed(snapshots(directory)):
        problem = find_damage(path)
        if problem is None:
            return path
        warn(f"{path}: {problem}; an older snapshot is used")
    return None


def find_damage(snapshot: Path) -> str | None:
    """Compares every file with the manifest; returns the first problem, or None."""
    try:
        files = json.loads((snapshot / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            size = (snapshot / name).stat().st_size
            if size != expected["bytes"]:
                return f"{name} has {size:,} bytes instead of {expected['bytes']:,}"
            if _sha256(snapshot / name) != expected["sha256"]:
                return f"{name} is damaged (its SHA-256 differs)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"incomplete ({error})"
    return None


def prune(directory: Path, *, keep: int, newest: Path) -> None:
    """Deletes all but `keep` snapshots up to `newest`, which is whole.

    Later ones are broken, or the run would have resumed from them; they go too, as does what an
    interrupted write has left.
    """
    found = snapshots(directory)
    good = [path for path in found if step_of(path) <= step_of(newest)]
    broken = [path for path in found if step_of(path) > step_of(newest)]
    for path in [*good[:-keep], *broken, *directory.glob("step-*.part")]:
        shutil.rmtree(path, ignore_errors=True)


def read_state(snapshot: Path) -> dict[str, Any]:
    """Returns the trainer's counts and the digests of its content."""
    return json.loads((snapshot / STATE).read_text(encoding="utf-8"))


class SnapshotReader:
    """Reads tensors of a snapshot, whole or some rows, whichever ranks wrote them."""

    def __init__(self, snapshot: Path) -> None:
        self.snapshot = snapshot
        self._places: dict[str, list[tuple[int, int, Path]]] = {}
        for path in sorted(snapshot.glob("rank-*.safetensors")):
            for name, first, count in _contents(path):
                self._places.setdefault(name, []).append((first, count, path))

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
        pieces = []
        for begin, size, path in sorted(self._places[name]):
            low = max(first, begin)
            high = begin + size if count is None else min(first + count, begin + size)
            with safe_open(path, framework="pt") as file:
                if low < high:
                    pieces.append(file.get_slice(name)[low - begin : high - begin])
                elif not pieces and size == 0:
                    pieces.append(file.get_tensor(name))
        if not pieces:
            with safe_open(sorted(self._places[name])[0][2], framework="pt") as file:
                return file.get_slice(name)[:0]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _begin(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def _write_rank(part: Path, shards: Mapping[str, Shard], writer: SnapshotWriter) -> None:
    path = part / f"rank-{writer.rank}-of-{writer.ranks}.safetensors"
    tensors = {
        name: (s.rows if s.rows.dim() else s.rows[None]).detach().cpu().contiguous()
        for name, s in shards.items()
    }
    firsts = {name: str(shard.first) for name, shard in shards.items()}
    save_file(tensors, path, metadata=firsts)
    _flush(path)
    entry = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}}
    _write_json(path.with_suffix(".json"), entry)


def _finish(part: Path, target: Path, state: State) -> None:
    """Writes state and manifest, and gives the snapshot its name."""
    _write_json(part / STATE, state)
    files = {STATE: {"bytes": (part / STATE).stat().st_size, "sha256": _sha256(part / STATE)}}
    for path in sorted(part.glob("rank-*.json")):
        files |= json.loads(path.read_text(encoding="utf-8"))
    _write_json(part / MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
    _flush(part)
    if target.exists():  # a broken one, or the run has reached this step before
        shutil.rmtree(target)
    part.replace(target)
    _flush(target.parent)


def _contents(path: Path) -> Iterator[tuple[str, int, int]]:
    with safe_open(path, framework="pt") as file:
        firsts = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118 safe_open is no mapping
            yield name, int(firsts[name]), file.get_slice(name).get_shape()[0]


def _write_json(path: Path, content: State) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    """Flushes a file, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
