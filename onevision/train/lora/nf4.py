"""Frozen linear layer -> the same layer in NF4, by bitsandbytes: 4.5 bits a number.

NF4 (arXiv 2305.14314, section 3): the nearest of 16 numbers that are quantiles of a normal
distribution, times the largest magnitude of a block of 64. UNTESTED on a GPU: there was none where
this was written; on a CPU it is what bitsandbytes' own layer computes.
"""

from types import ModuleType

import torch
from torch import Tensor

from onevision.errors import ConfigError
from onevision.extras import imports_of_extra
from onevision.train.lora.frozen import FrozenLinear

BLOCK = 64


class Nf4FrozenLinear(FrozenLinear):
    """A linear layer whose weight bitsandbytes holds."""

    parts = ("packed", "largest")
    packed: Tensor  # uint8 [out * in / 2, 1]
    largest: Tensor  # fp32 [out * in / 64], of each block

    @staticmethod
    def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the numbers of `weight` [out, in], two a byte, and the largest of each block."""
        if weight.is_meta:
            numbers = weight.numel()
            packed = torch.empty(-(-numbers // 2), 1, dtype=torch.uint8, device="meta")
            return packed, torch.empty(-(-numbers // BLOCK), device="meta")
        functional = import_bitsandbytes()
        packed, state = functional.quantize_4bit(
            weight.float().contiguous(), blocksize=BLOCK, quant_type="nf4"
        )
        return packed, state.absmax

    def multiply_out(self, dtype: torch.dtype) -> Tensor:
        """Returns the weight [out, in]."""
        functional = import_bitsandbytes()
        state = functional.QuantState(
            absmax=self.largest,
            shape=torch.Size((self.out_features, self.in_features)),
            code=functional.get_4bit_type("nf4", device=self.packed.device),
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=dtype,
        )
        return functional.dequantize_4bit(self.packed, state)


def import_bitsandbytes() -> ModuleType:
    """Returns bitsandbytes' functions. Raises ConfigError if it is not installed."""
    message = (
        "lora_base=nf4 needs bitsandbytes; pip install 'onevision[nf4]', or set lora_base=int4, "
        "which needs no package"
    )
    with imports_of_extra("nf4", message, error=ConfigError):
        from bitsandbytes import functional
    return functional
