"""Linear layers that read the same input, as one product: queries, keys and values; gate and up.

For inference alone: the single layers, and their names in a state dict, are given up.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from onevision.batch import Blocks
from onevision.model.attention import Attend
from onevision.model.decoder import Attention, Cache, DecoderBlock, SwiGLU, rotate

Rotate = Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]


class FusedAttention(nn.Module):
    """An `Attention` whose queries, keys and values come from one product."""

    def __init__(self, attention: Attention, *, rotate: Rotate) -> None:
        super().__init__()
        self.query_key_value = concatenate([attention.query, attention.key, attention.value])
        self.output = attention.output
        self.attend: Attend = attention.attend
        self.rotate = rotate
        self.index, self.head_size = attention.index, attention.head_size
        self.num_heads, self.num_groups = attention.num_heads, attention.num_groups

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        *,
        mask: Tensor | Blocks | None,
        cache: Cache | None,
    ) -> Tensor:
        """Transforms `x` [B, S, D] -> [B, S, D]."""
        heads = self.query_key_value(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
        rotated, v = heads.tensor_split([self.num_heads + self.num_groups], dim=1)
        q, k = self.rotate(rotated, rotation).tensor_split([self.num_heads], dim=1)
        if cache is not None:
            x = cache.attend(self.index, q, k, v)
        else:
            x = self.attend(q, k, v, mask=mask, is_causal=mask is None)
        return self.output(x.transpose(1, 2).flatten(2))


class FusedSwiGLU(nn.Module):
    """A `SwiGLU` whose gate and up come from one product."""

    def __init__(self, mlp: SwiGLU) -> None:
        super().__init__()
        self.gate_up = concatenate([mlp.gate, mlp.up])
        self.down, self.activation = mlp.down, mlp.activation

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [B, S, D] -> [B, S, D]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)


def fuse(module: nn.Module, *, rotate: Rotate = rotate, mlp: bool = True) -> None:
    """Fuses the attention, and with `mlp` the SwiGLU, of every decoder block inside `module`.

    `rotate` applies rotary positions, as `model.decoder.rotate` does.
    """
    for block in [part for part in module.modules() if isinstance(part, DecoderBlock)]:
        block.add_module("attention", FusedAttention(block.attention, rotate=rotate))
        if mlp:
            block.add_module("mlp", FusedSwiGLU(block.mlp))


def concatenate(layers: Sequence[nn.Linear]) -> nn.Linear:
    """Returns one layer that gives the outputs of all `layers`, one after the other."""
    fused = nn.Linear(
        layers[0].in_features,
        sum(layer.out_features for layer in layers),
        bias=layers[0].bias is not None,
        device="meta",
    )
    for name in [name for name, _ in fused.named_parameters()]:
        own = [layer.get_parameter(name).data for layer in layers]
        fused.register_parameter(name, nn.Parameter(torch.cat(own), requires_grad=False))
    return fused
