"""A big file -> a memory-mapped index of it, built once and cached.

Indices are kept in $ONEVISION_CACHE (by default ~/.cache/onevision) under a hash of the
file's path, size and modification time (of a shard: its address, size and version), so a file that
changes is indexed again, and a shard is indexed once although the cache of shards drops it.
"""

import fcntl
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onevision.data.remote.cache import DataFile
from onevision.data.remote.shard import Shard
from onevision.files import atomic_path, cache_directory

# Raised when the meaning of an index changes.
FORMAT = "3"
MAX_SHARDS_AT_ONCE = 4
File = TypeVar("File", bound=DataFile)


class Index:
    """Rows of numbers in a file, mapped into memory where they are read: it travels as a path."""

    def __init__(self, path: Path, *, columns: int) -> None:
        self.path, self.columns = path, columns
        self.num_rows = path.stat().st_size // (8 * columns)

    def __len__(self) -> int:
        return self.num_rows

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "rows"}

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The numbers, [rows, columns]."""
        if not self.num_rows:
            return np.zeros((0, self.columns), dtype=np.int64)
        return np.memmap(self.path, dtype=np.int64, mode="r").reshape(-1, self.columns)


def open_index(file: File, build: Callable[[File], Iterable[int]], *, columns: int) -> Index:
    """Returns the index [rows, columns] of `file`, from the cache or from `build`.

    `build` yields the numbers row by row; they go straight to disk. Of processes that want one
    index, one builds it and the others wait.
    """
    key = f"{FORMAT}:{file_identity(file)}:{columns}"
    path = cache_directory() / "index" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.bin"
    if not path.exists():
        with _locked(path.with_suffix(".lock")):
            if not path.exists():  # another process may have built it meanwhile
                with atomic_path(path) as partial, partial.open("wb") as target:
                    for chunk in _chunks(build(file)):
                        target.write(chunk.tobytes())
    return Index(path, columns=columns)


def open_indices(
    files: Sequence[File], build: Callable[[File], Iterable[int]], *, columns: int
) -> list[Index]:
    """Returns the indices of files; those of shards are built while others are fetched."""
    if all(isinstance(file, Path) for file in files):
        return [open_index(file, build, columns=columns) for file in files]
    with ThreadPoolExecutor(MAX_SHARDS_AT_ONCE) as pool:
        futures = [pool.submit(open_index, file, build, columns=columns) for file in files]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def file_identity(file: DataFile) -> str:
    """Returns a text that changes when a file does: its place, size and time or version."""
    if isinstance(file, Shard):
        return file.identity
    status = file.stat()
    return f"{file.resolve()}:{status.st_size}:{status.st_mtime_ns}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        with suppress(OSError):  # a disk without locks: each builds its own, which is the same
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _chunks(numbers: Iterable[int], size: int = 1 << 16) -> Iterable[NDArray[np.int64]]:
    chunk: list[int] = []
    for number in numbers:
        chunk.append(number)
        if len(chunk) == size:
            yield np.array(chunk, dtype=np.int64)
            chunk.clear()
    yield np.array(chunk, dtype=np.int64)
