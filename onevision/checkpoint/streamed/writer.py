"""Tensors, fetched one at a time -> a safetensors file, or those of a checkpoint.

A file is the length of its header (8 bytes, little-endian), the header in JSON, and the tensors'
bytes without gaps (https://github.com/huggingface/safetensors, "Format"). The library writes a file
from tensors that are all in memory; here each is released before the next is fetched.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from onevision.checkpoint.files import DTYPES, divide_among_files
from onevision.files import atomic_path

# The header is padded with spaces, so that every tensor begins at a multiple of this.
ALIGNMENT = 8
TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()} | {
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


def write_streamed(
    directory: Path, expected: Mapping[str, Tensor], fetch: Callable[[str], Tensor]
) -> None:
    """Writes tensors that `fetch` returns by name, in the order of `streamed_order`.

    `expected` says their shapes and types; tensors without memory will do. Raises OSError.
    """

    def write(names: Sequence[str], path: Path, metadata: Mapping[str, str]) -> None:
        with atomic_path(path) as partial, partial.open("wb") as out:
            stream_tensors(out.write, {n: expected[n] for n in names}, fetch, metadata=metadata)

    sizes = {name: expected[name].nbytes for name in streamed_order(expected)}
    divide_among_files(directory, sizes, write)


def streamed_order(expected: Mapping[str, Tensor]) -> list[str]:
    """Returns the order of tensors in the files: widest types first, then by name."""
    return sorted(expected, key=lambda name: (-expected[name].itemsize, name))


def stream_tensors(
    write: Callable[[bytes | memoryview], object],
    expected: Mapping[str, Tensor],
    fetch: Callable[[str], Tensor],
    *,
    metadata: Mapping[str, str],
) -> None:
    """Writes a file by calls of `write`; otherwise as `write_streamed`."""
    values: dict[str, object] = {"__metadata__": dict(metadata)}
    names, begin = streamed_order(expected), 0
    for name in names:
        tensor = expected[name]
        values[name] = {
            "dtype": TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, begin + tensor.nbytes],
        }
        begin += tensor.nbytes
    header = json.dumps(values, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    write(len(header).to_bytes(8, "little") + header)
    for name in names:
        write(_bytes_of(fetch(name), expected[name]))


def _bytes_of(tensor: Tensor, expected: Tensor) -> memoryview:
    assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype)
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
