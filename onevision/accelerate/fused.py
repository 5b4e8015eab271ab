"""Linear layers that read the same input, as one product: queries, keys and values; gate and up.

For inference alone: the single layers, and their names in a state dict, are given up.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from onevision.accelerate.empty import without_memory
from onevision.accelerate.int4 import Int4Linear
from onevision.accelerate.int8 import Int8Linear
from onevision.batch import Blocks
from onevision.model.attention import Attend, rotate
from onevision.model.decoder import Attention, Cache, DecoderBlock, RMSNorm, SwiGLU
from onevision.model.vision import Rotation, VisionAttention, VisionBlock, turn

Rotate = Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]


class FusedAttention(nn.Module):
    """An `Attention` whose queries, keys and values come from one product."""

    def __init__(self, attention: Attention, *, rotate: Rotate) -> None:
        super().__init__()
        self.query_key_value = concatenate([attention.query, attention.key, attention.value])
        self.output = attention.output
        self.attend: Attend = attention.attend
        self.rotate = rotate
        self.norm = stack_norms(attention)
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
        rotated = self.rotate(self.norm(rotated), rotation)
        q, k = rotated.tensor_split([self.num_heads], dim=1)
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
        return self.down(self.activation(gate).mul_(up))


class FusedVisionAttention(nn.Module):
    """A `VisionAttention` whose queries, keys and values come from one product."""

    def __init__(self, attention: VisionAttention) -> None:
        super().__init__()
        self.query_key_value = concatenate([attention.query, attention.key, attention.value])
        self.output = attention.output
        self.attend: Attend = attention.attend
        self.num_heads = attention.num_heads

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Transforms `x` [N, P, C] -> [N, P, C]; `rotation` is as in `VisionAttention`."""
        heads = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = heads.transpose(1, 3).unbind(2)  # [N, heads, P, K] each
        q, k = turn(q, rotation), turn(k, rotation)
        return self.output(self.attend(q, k, v).transpose(1, 2).flatten(2))


def fuse(module: nn.Module, *, rotate: Rotate = rotate, mlp: bool = True) -> None:
    """Fuses layers beside each other, of one kind, in every block inside `module`.

    Those of the attention of a decoder block, and with `mlp` of its SwiGLU. Quantised ones are
    fused always, in the vision encoder too, so that their rows are quantised once. `rotate` applies
    rotary positions, as `model.attention.rotate` does.
    """
    for block in list(module.modules()):
        if isinstance(block, DecoderBlock):
            attention, own = block.attention, block.mlp
            if are_alike(attention.query, attention.key, attention.value):
                block.add_module("attention", FusedAttention(attention, rotate=rotate))
            if are_alike(own.gate, own.up) and (mlp or type(own.gate) is not nn.Linear):
                block.add_module("mlp", FusedSwiGLU(own))
        elif isinstance(block, VisionBlock):
            layers = block.attention.query, block.attention.key, block.attention.value
            if are_alike(*layers) and type(layers[0]) is not nn.Linear:
                block.add_module("attention", FusedVisionAttention(block.attention))


def are_alike(first: nn.Module, *others: nn.Module) -> bool:
    """Whether all are layers of one kind, which `concatenate` takes."""
    return all(type(other) is type(first) for other in others)


def stack_norms(attention: Attention) -> nn.Module:
    """Returns one norm for the heads of queries and keys together; nothing if they have none."""
    query, key = attention.query_norm, attention.key_norm
    if not (isinstance(query, RMSNorm) and isinstance(key, RMSNorm)):
        return nn.Identity()
    heads = [
        norm.weight.detach().expand(count, 1, -1)
        for norm, count in ((query, attention.num_heads), (key, attention.num_groups))
    ]
    stacked = RMSNorm(attention.head_size, eps=query.eps)
    stacked.weight = nn.Parameter(torch.cat(heads), requires_grad=False)  # [Q + G, 1, K]
    return stacked


def concatenate(layers: Sequence[nn.Module]) -> nn.Module:
    """Returns one layer that gives the outputs of all `layers`, one after the other."""
    match layers[0]:
        case Int8Linear():
            return Int8Linear.concatenate([x for x in layers if isinstance(x, Int8Linear)])
        case Int4Linear():
            return Int4Linear.concatenate([x for x in layers if isinstance(x, Int4Linear)])
        case _:
            return _concatenate_plain([x for x in layers if isinstance(x, nn.Linear)])


def _concatenate_plain(layers: Sequence[nn.Linear]) -> nn.Linear:
    width, num_outputs = layers[0].in_features, sum(layer.out_features for layer in layers)
    with without_memory():
        fused = nn.Linear(width, num_outputs, bias=layers[0].bias is not None)
    for name in [name for name, _ in fused.named_parameters()]:
        own = [layer.get_parameter(name).data for layer in layers]
        fused.register_parameter(name, nn.Parameter(torch.cat(own), requires_grad=False))
    return fused
