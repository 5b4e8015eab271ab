"""This process's rows of every tensor -> its share of a snapshot; all shares -> a snapshot."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from onevision.checkpoint.streamed.writer import stream_tensors
from onevision.train.saving.place import Place, RemotePath
from onevision.train.snapshots import (
    FORMAT_VERSION,
    MANIFEST,
    STATE,
    State,
    name_of,
    remove_snapshot,
)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """This rank's rows of a tensor, or some of their columns, or the whole tensor."""

    rows: Tensor
    first: int = 0  # the index of its first row in the whole tensor
    first_column: int = 0


@dataclass(frozen=True, kw_only=True)
class SnapshotWriter:
    """One of the `ranks` that write a snapshot together, in stages."""

    rank: int
    ranks: int
    # Takes this rank's problem; waits for all ranks and returns whether none has one.
    all_succeeded: Callable[[Exception | None], bool]


@dataclass(kw_only=True)
class Draft:
    """A snapshot that is being written: `begin`, `write`, `finish`, in which all ranks agree.

    Every rank calls `begin` and `finish`; each raises OSError on every rank, and leaves nothing
    behind, if any rank has failed. Between them, `write` may run in a thread.
    """

    directory: Place
    step: int
    state: State
    writer: SnapshotWriter
    problem: OSError | None = field(default=None, init=False)

    @property
    def target(self) -> Place:
        """What the snapshot will be."""
        return self.directory / name_of(self.step)

    @property
    def part(self) -> Place:
        """Where it is written until it is whole."""
        return (
            self.target if isinstance(self.directory, RemotePath) else Path(f"{self.target}.part")
        )

    def begin(self) -> None:
        """Makes room."""
        self._attempt(lambda: _begin(self.part) if self.writer.rank == 0 else None)
        self._agree()

    def write(self, shards: Mapping[str, Shard]) -> None:
        """Writes this rank's share; a problem is kept for `finish`."""
        self._attempt(lambda: _write_rank(self.part, shards, self.writer))

    def finish(self) -> Place:
        """Waits for all ranks, makes the snapshot whole, and returns it."""
        self._agree()
        if self.writer.rank == 0:
            self._attempt(lambda: _finish(self.part, self.target, self.state, self.writer.ranks))
        self._agree()
        return self.target

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            self.problem = error
        except Exception as error:  # noqa: BLE001 in a thread it would be lost
            self.problem = OSError(f"{type(error).__name__}: {error}".partition("\n")[0])

    def _agree(self) -> None:
        if not self.writer.all_succeeded(self.problem):
            if self.writer.rank == 0:
                self._attempt(lambda: remove_snapshot(self.part))
            raise self.problem or OSError(f"{self.part}: another rank could not write its share")


def write_snapshot(
    directory: Place,
    step: int,
    shards: Mapping[str, Shard],
    state: State,
    *,
    writer: SnapshotWriter,
) -> Place:
    """Writes the snapshot of `step`, whole or not at all; every rank calls it.

    Raises OSError on every rank, and leaves nothing behind, if any rank could not write.
    """
    draft = Draft(directory=directory, step=step, state=state, writer=writer)
    draft.begin()
    draft.write(shards)
    return draft.finish()


def _begin(part: Place) -> None:
    remove_snapshot(part)
    if isinstance(part, Path):
        part.mkdir(parents=True)


def _write_rank(part: Place, shards: Mapping[str, Shard], writer: SnapshotWriter) -> None:
    name = f"rank-{writer.rank}-of-{writer.ranks}"
    tensors = {n: (s.rows if s.rows.dim() else s.rows[None]).detach() for n, s in shards.items()}
    firsts = {n: f"{shard.first},{shard.first_column}" for n, shard in shards.items()}
    digest, num_bytes = hashlib.sha256(), 0
    with (part / f"{name}.safetensors").open("wb") as file:

        def write(content: bytes | memoryview) -> None:
            nonlocal num_bytes
            file.write(content)
            digest.update(content)
            num_bytes += len(content)

        stream_tensors(write, tensors, lambda n: tensors[n].cpu(), metadata=firsts)
        _flush_file(file, part)
    entry = {f"{name}.safetensors": {"bytes": num_bytes, "sha256": digest.hexdigest()}}
    _write_json(part, f"{name}.json", entry)


def _finish(part: Place, target: Place, state: State, ranks: int) -> None:
    """Writes state and manifest, and gives the snapshot its name."""
    shares = sorted(part.glob("rank-*.json"), key=str)
    if len(shares) != ranks:
        raise OSError(
            f"{part}: it holds {len(shares)} of {ranks} shares; all processes must write to one "
            "place, such as a shared disk"
        )
    files = {STATE: _write_json(part, STATE, state)}
    for path in shares:
        files |= json.loads(path.read_text(encoding="utf-8"))
    _write_json(part, MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
    if isinstance(part, RemotePath):
        return
    assert isinstance(target, Path)
    _flush(part)
    if target.exists():  # a broken one, or the run has reached this step before
        shutil.rmtree(target)
    part.replace(target)
    _flush(target.parent)


def _write_json(part: Place, name: str, content: State) -> dict[str, object]:
    """Writes a file; returns its size and SHA-256."""
    encoded = json.dumps(content, indent=1).encode()
    with (part / name).open("wb") as file:
        file.write(encoded)
        _flush_file(file, part)
    return {"bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}


def _flush_file(file: BinaryIO, part: Place) -> None:
    """Flushes a file of a disk; a store has it once it is closed."""
    if isinstance(part, Path):
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    """Flushes the entries of a directory to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
