"""A big file -> a memory-mapped index of it, built once and cached.

Indices are kept in $ONEVISION_CACHE (by default ~/.cache/onevision) under a hash of the
file's path, size and modification time, so a file that changes is indexed again.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onevision.files import atomic_path, cache_directory

# Raised when the meaning of an index changes.
FORMAT = "3"


def open_index(
    file: Path, build: Callable[[Path], Iterable[int]], *, columns: int
) -> NDArray[np.int64]:
    """Returns the index [rows, columns] of `file`, from the cache or from `build`.

    `build` yields the numbers row by row; they go straight to disk.
    """
    key = f"{FORMAT}:{file_identity(file)}:{columns}"
    path = cache_directory() / "index" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.bin"
    if not path.exists():
        with atomic_path(path) as partial, partial.open("wb") as target:
            for chunk in _chunks(build(file)):
                target.write(chunk.tobytes())
    if path.stat().st_size == 0:
        return np.zeros((0, columns), dtype=np.int64)
    return np.memmap(path, dtype=np.int64, mode="r").reshape(-1, columns)


def file_identity(file: Path) -> str:
    """Returns a text that changes when a file does: its path, size and modification time."""
    status = file.stat()
    return f"{file.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _chunks(numbers: Iterable[int], size: int = 1 << 16) -> Iterable[NDArray[np.int64]]:
    chunk: list[int] = []
    for number in numbers:
        chunk.append(number)
        if len(chunk) == size:
            yield np.array(chunk, dtype=np.int64)
            chunk.clear()
    yield np.array(chunk, dtype=np.int64)
