"""A tensor's place in a safetensors file -> the tensor, mapped from there, without the header.

safetensors reads the whole header again whenever a file is opened: a second in all for 0.5B. Each
tensor has a mapping of its own, whose pages are given back with it.
"""

import json
import math
import mmap
from pathlib import Path

import torch
from torch import Tensor

from onevision.errors import CheckpointError

# Types of plain numbers, as headers spell them, and those besides whose bytes are mapped as well.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
MAPPED = {**DTYPES, "I32": torch.int32, "I8": torch.int8}


def read_begins(path: Path) -> dict[str, int]:
    """Returns where the bytes of each tensor begin in a file that safetensors has accepted.

    Its header: a length in 8 bytes, then JSON whose offsets count from its end. Raises OSError.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: 8 + length + entry["data_offsets"][0]
        for name, entry in header.items()
        if name != "__metadata__"
    }


def can_map(dtype: str, shape: tuple[int, ...], begin: int) -> bool:
    """Whether a tensor can be mapped from `begin`: it has numbers, aligned, of a type of torch."""
    return dtype in MAPPED and math.prod(shape) > 0 and not begin % MAPPED[dtype].itemsize


def map_tensor(path: Path, name: str, *, dtype: str, shape: tuple[int, ...], begin: int) -> Tensor:
    """Returns a tensor of which `can_map` is true. Raises CheckpointError."""
    kind, count = MAPPED[dtype], math.prod(shape)
    first = begin - begin % mmap.ALLOCATIONGRANULARITY
    length = begin - first + count * kind.itemsize
    try:
        with path.open("rb") as file:
            # Private, as torch has no memory that is only read.
            pages = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=first)
    except (OSError, ValueError) as error:  # ValueError: the file has become shorter
        raise CheckpointError(
            f"{path}: tensor {name} cannot be mapped ({error}); the file was there when its header "
            "was read: download or copy it again"
        ) from error
    return torch.frombuffer(pages, dtype=kind, count=count, offset=begin - first).view(shape)
