"""Memory shared by a worker process and its parent: rows cross without going through a pipe.

    worker   slot 0 | slot 1 | slot 0 | ...     writes task n into slot n % 2
    parent      copies slot 0 | slot 1 | ...     before it sends task n + 2

so neither has to say which slot is free.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onevision.anyres import Layout
from onevision.data.packing import PackedRow
from onevision.errors import DataError

NUM_SLOTS = 2
# Of address space; memory is used only where something was written.
SLOT_BYTES = 256 * 2**20
ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True)
class SlotRow:
    """Where a row lies in a slot: for each tensor (name, dtype, shape, first byte)."""

    tensors: tuple[tuple[str, str, tuple[int, ...], int], ...]
    num_bytes: int
    layouts: tuple[Layout, ...]


class Slots:
    """The slots of one worker; can be passed only to a process that is being started."""

    def __init__(self, file: int | None = None) -> None:
        if file is None:
            file = _memory_file()
            os.ftruncate(file, NUM_SLOTS * SLOT_BYTES)
        self._file = file
        self._map = mmap.mmap(file, NUM_SLOTS * SLOT_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:  # Any: what pickle asks for
        return _receive, (DupFd(self._file),)

    def close(self) -> None:
        """Releases the memory."""
        self._map.close()
        os.close(self._file)

    def write(self, row: PackedRow, *, task: int) -> SlotRow:
        """Copies the row of the worker's task number `task` into its slot. Raises DataError."""
        places: list[tuple[str, str, tuple[int, ...], int]] = []
        offset = 0
        for name, array in _arrays(row):
            places.append((name, array.dtype.str, array.shape, offset))
            offset += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        if offset > SLOT_BYTES:
            raise DataError(
                f"the decoded sample takes {offset / 2**20:,.0f} MiB; at most "
                f"{SLOT_BYTES / 2**20:,.0f} fit through a worker; show fewer frames or "
                "images, or load without workers"
            )
        start = task % NUM_SLOTS * SLOT_BYTES
        for (_, array), (_, dtype, shape, place) in zip(_arrays(row), places, strict=True):
            target = np.ndarray(shape, dtype, buffer=self._map, offset=start + place)
            target[...] = array
        return SlotRow(tensors=tuple(places), num_bytes=offset, layouts=row.layouts)

    def read(self, placed: SlotRow, *, task: int) -> PackedRow:
        """Copies a row out of its slot."""
        start = task % NUM_SLOTS * SLOT_BYTES
        held = np.frombuffer(self._map, np.uint8, placed.num_bytes, start).copy()
        return PackedRow(
            layouts=placed.layouts,
            **{
                name: _tensor(held, np.dtype(dtype), shape, offset)
                for name, dtype, shape, offset in placed.tensors
            },
        )


def _tensor(
    held: NDArray[np.uint8], dtype: np.dtype[Any], shape: tuple[int, ...], offset: int
) -> Tensor:
    count = int(np.prod(shape))
    flat = held[offset : offset + count * dtype.itemsize].view(dtype)
    return torch.from_numpy(flat.reshape(shape))


def _arrays(row: PackedRow) -> Iterator[tuple[str, NDArray[Any]]]:
    for field in fields(PackedRow):
        if field.name != "layouts":
            yield field.name, getattr(row, field.name).numpy()


def _memory_file() -> int:
    """Opens an anonymous file, in memory on Linux and on disk elsewhere."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("onevision")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _receive(handle: Any) -> Slots:  # Any: multiprocessing's duplicated descriptor
    return Slots(handle.detach())
