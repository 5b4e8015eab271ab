"""Names of devices and number types -> those that a model is loaded with."""

import torch

from onevision.accelerate.processor import can_multiply
from onevision.checkpoint.files import DTYPES as STORED_DTYPES
from onevision.checkpoint.load import EMBEDDING, CheckpointInfo
from onevision.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(device: str) -> torch.device:
    """Returns the device of a name. Raises InputError if it cannot be used here."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used here ({error}); try 'cpu'") from error
    return place


def find_dtype(dtype: str, device: str) -> torch.dtype | None:
    """Returns the type of a name, None for "auto". Raises InputError."""
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected 'auto', {', '.join(map(repr, DTYPES))}")
    if dtype == "float16" and device == "cpu":
        raise InputError("float16 is not usable on CPU; take 'bfloat16' or 'float32'")
    return DTYPES[dtype]


def stored_dtype(info: CheckpointInfo, place: torch.device) -> torch.dtype:
    """Returns the embedding's type, or fp32 if the CPU cannot multiply in it."""
    dtype = STORED_DTYPES[info.tensors[EMBEDDING].dtype]
    return dtype if place.type != "cpu" or can_multiply(dtype) else torch.float32
