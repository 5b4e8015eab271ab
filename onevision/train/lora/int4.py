"""Frozen linear layer -> the same layer with 4-bit weights: 4.5 bits a number with their scales.

The numbers are those of accelerate/int4.py: every 64 inputs of a row share a scale and a middle.
A last group that is shorter repeats its last number. Two numbers lie in a byte.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from onevision.accelerate.int4 import GROUP, round_groups
from onevision.train.lora.frozen import FrozenLinear

# Numbers that are multiplied out at a time in fp32.
NUMBERS_AT_ONCE = 2**22


class Int4FrozenLinear(FrozenLinear):
    """w = scale * (q - 8) + middle with q in 0 ... 15, taken in fp32 and rounded once."""

    parts = ("packed", "scale", "middle")
    packed: Tensor  # uint8 [out, in/64, 32]: in the low half of a byte the first 32 of a group
    scale: Tensor  # bf16 [out, in/64]
    middle: Tensor  # bf16 [out, in/64]

    @staticmethod
    def quantise(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the numbers of `weight` [out, in], two a byte, their scales and middles."""
        missing = -weight.shape[1] % GROUP
        whole = F.pad(weight.float()[None], (0, missing), mode="replicate")[0]
        numbers, scale, middle = round_groups(whole)
        first, second = numbers.unflatten(1, (-1, 2, GROUP // 2)).unbind(2)
        return first | (second << 4), scale, middle

    def multiply_out(self, dtype: torch.dtype) -> Tensor:
        """Returns the weight [out, in], made some rows at a time."""
        device = self.packed.device
        weight = torch.empty(self.out_features, self.in_features, dtype=dtype, device=device)
        at_once = max(1, NUMBERS_AT_ONCE // self.in_features)
        for begin in range(0, self.out_features, at_once):
            rows = slice(begin, begin + at_once)
            pairs = self.packed[rows]
            steps = torch.cat([pairs & 15, pairs >> 4], dim=-1).float().sub_(8)  # [r, in/64, 64]
            steps.mul_(self.scale[rows, :, None]).add_(self.middle[rows, :, None])
            weight[rows] = steps.flatten(1)[:, : self.in_features]
        return weight
