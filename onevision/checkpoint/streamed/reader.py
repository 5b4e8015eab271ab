"""A safetensors file that is read by ranges of bytes -> rows of its tensors.

The library maps files of a disk. This reads what lies elsewhere too, as long as ranges of it can be
fetched, and of every tensor only the rows that are asked for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from onevision.checkpoint.streamed.writer import TYPE_NAMES

TYPES = {name: dtype for dtype, name in TYPE_NAMES.items()}
LENGTH_BYTES = 8

# Returns bytes `begin` to `end` of a file. Raises OSError.
ReadRange = Callable[[int, int], bytes | bytearray]


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int

    def read_rows(self, read: ReadRange, first: int, count: int) -> Tensor:
        """Returns `count` rows from `first` on, in memory of their own."""
        shape = (count, *self.shape[1:])
        row_bytes = self.dtype.itemsize
        for size in self.shape[1:]:
            row_bytes *= size
        if count * row_bytes == 0:
            return torch.empty(shape, dtype=self.dtype)
        begin = self.begin + first * row_bytes
        content = read(begin, begin + count * row_bytes)
        buffer = content if isinstance(content, bytearray) else bytearray(content)
        return torch.frombuffer(buffer, dtype=torch.uint8).view(self.dtype).view(shape)


@dataclass(frozen=True, kw_only=True)
class TensorHeader:
    """What a file holds."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]


def read_header(read: ReadRange) -> TensorHeader:
    """Reads the header of a file. Raises OSError, and ValueError if it is none."""
    length = int.from_bytes(read(0, LENGTH_BYTES), "little")
    try:
        values = json.loads(bytes(read(LENGTH_BYTES, LENGTH_BYTES + length)))
        metadata = values.pop("__metadata__", {})
        tensors = {
            name: TensorEntry(
                dtype=TYPES[one["dtype"]],
                shape=tuple(one["shape"]),
                begin=LENGTH_BYTES + length + one["data_offsets"][0],
            )
            for name, one in values.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no header of safetensors ({error!r})") from error
    return TensorHeader(metadata=metadata, tensors=tensors)
