"""The network of one device of several -> the same, whose blocks sum with those of the others."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from onevision.model.decoder import Decoder, DecoderBlock


class Summed(nn.Module):
    """A module whose output [B, S, D] is summed over all devices."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *inputs: Any, **options: Any) -> Tensor:  # Any: those of the module
        """Returns the sum of what all devices compute."""
        out = self.part(*inputs, **options).contiguous()
        dist.all_reduce(out)
        return out


def sum_blocks(decoder: Decoder) -> None:
    """Lets the attention and the MLP of every block sum over all devices, in place."""
    for block in decoder.blocks:
        assert isinstance(block, DecoderBlock)
        block.add_module("attention", Summed(block.attention))
        block.add_module("mlp", Summed(block.mlp))


def gather_rows(logits: Tensor, *, count: int, is_first: bool) -> Tensor | None:
    """Joins the parts of logits [n, V / count] to [n, V] on the first device, None elsewhere."""
    parts = [torch.empty_like(logits) for _ in range(count)] if is_first else None
    dist.gather(logits.contiguous(), parts)
    return None if parts is None else torch.cat(parts, dim=-1)
