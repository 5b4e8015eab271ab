"""The name of a base -> how a frozen weight below an adapter is stored."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import torch
from torch import nn

from onevision.train.lora.frozen import FrozenLinear
from onevision.train.lora.int4 import Int4FrozenLinear
from onevision.train.lora.int8 import Int8FrozenLinear
from onevision.train.lora.nf4 import Nf4FrozenLinear, import_bitsandbytes

Base = Literal["full", "int8", "int4", "nf4"]
# "full" is not stored otherwise.
FROZEN: Mapping[Base, type[FrozenLinear]] = MappingProxyType(
    {"int8": Int8FrozenLinear, "int4": Int4FrozenLinear, "nf4": Nf4FrozenLinear}
)


def freeze(linear: nn.Linear, base: Base) -> nn.Linear | FrozenLinear:
    """Returns a layer stored as `base` says. Raises ConfigError if a package is missing."""
    return linear if base == "full" else FROZEN[base](linear)


def check_base(base: Base) -> None:
    """Raises ConfigError if the package that stores such weights is missing."""
    if base == "nf4":
        import_bitsandbytes()


@lru_cache(maxsize=256)
def stored_bytes(base: Base, out_features: int, in_features: int) -> int:
    """Returns the bytes that a weight [out, in] takes, counted on tensors without memory."""
    weight = torch.empty(out_features, in_features, device="meta")
    stored = (weight,) if base == "full" else FROZEN[base].quantise(weight)
    return sum(tensor.nbytes for tensor in stored)
