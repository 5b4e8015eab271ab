"""Linear layers in the weight layout that a CPU multiplies fastest, for inference.

Given plain weights, oneDNN rearranges them for its kernels on every call, or takes a slower path
for a few rows. Packed once, bf16 gives the same bits 2.5 times as fast for one row and a tenth
faster for hundreds, and fp32 runs twice as fast (docs/performance.md). The plain weights are given
up. The activation of an MLP is computed with its product, before the product is rounded.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.accelerate.cuda_int4 import CudaInt4Linear, pack_int4
from onevision.accelerate.int4 import Int4Linear, PackedInt4Linear
from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.int8_packer import Int8Packer, PackedInt8Linear
from onevision.accelerate.processor import has_layout
from onevision.accelerate.stored_embedding import StoredEmbedding
from onevision.model.decoder import SwiGLU
from onevision.model.vision import VisionMLP, gelu_tanh

# oneDNN's names for the activations it computes with a product: the kind and the algorithm.
ONEDNN_ACTIVATIONS: Mapping[Callable[..., Tensor], tuple[str, str]] = {
    F.silu: ("swish", ""),
    F.gelu: ("gelu", "none"),
    gelu_tanh: ("gelu", "tanh"),
}


SQRT_2_BY_PI = math.sqrt(2 / math.pi)


class PackedLinear(nn.Module):
    """A linear layer whose weight has oneDNN's own layout, and the activation after it, if any."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.activation = ("none", "")
        # A buffer: for one that might need a gradient, oneDNN takes a path a hundred times slower.
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())
        # Neither a parameter nor a buffer: it cannot be trained, moved or saved.
        self.packed = [torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())]

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N]."""
        kind, algorithm = self.activation
        return torch.ops.mkldnn._linear_pointwise(x, self.packed[0], self.bias, kind, [], algorithm)


def pack(module: nn.Module, packer: Int8Packer) -> None:
    """Packs every linear layer inside `module`, where its device has a layout for it."""
    # No list of the linear layers: each is freed as soon as it is packed.
    layers = nn.Linear | Int8Linear | Int4Linear
    for part in [part for part in module.modules() if not isinstance(part, layers)]:
        for name in [name for name, _ in part.named_children()]:
            child = part.get_submodule(name)
            if isinstance(child, layers):
                part.add_module(name, _pack_layer(child, packer))
        if isinstance(part, SwiGLU | VisionMLP):
            _fuse_activation(part)


def _pack_layer(layer: nn.Module, packer: Int8Packer) -> nn.Module:
    if isinstance(layer, Int8Linear):
        return packer.pack(layer)
    if isinstance(layer, Int4Linear):
        if layer.numbers.device.type == "cuda":
            return pack_int4(layer, packer.reasons)
        return PackedInt4Linear(layer)
    if type(layer) is nn.Linear and can_pack(layer.weight):
        return PackedLinear(layer)
    return layer


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN has a layout of its own for `weight` on this processor."""
    is_here = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return is_here and has_layout(weight.dtype)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor inside `module` by name; `state_dict` lacks packed and stored ones."""
    yield from module.state_dict().items()
    for name, part in module.named_modules():
        if isinstance(part, PackedLinear):
            yield f"{name}.weight", part.packed[0].to_dense()
        elif isinstance(part, PackedInt8Linear):
            yield from ((f"{name}.{i}", x) for i, x in enumerate(part.product.tensors))
        elif isinstance(part, PackedInt4Linear | CudaInt4Linear):
            yield from ((f"{name}.{i}", x) for i, x in enumerate([part.packed, part.scales]))
        elif isinstance(part, StoredEmbedding):
            yield f"{name}.weight", part.rows[0]


def _fuse_activation(mlp: SwiGLU | VisionMLP) -> None:
    layer = mlp.gate if isinstance(mlp, SwiGLU) else mlp.up
    is_int8 = isinstance(layer, PackedInt8Linear) and layer.product.tensors[1].device.type == "cpu"
    if is_int8 and mlp.activation is gelu_tanh:
        mlp.activation = _gelu_tanh_by_sigmoid
    if isinstance(layer, PackedLinear) and mlp.activation in ONEDNN_ACTIVATIONS:
        layer.activation = ONEDNN_ACTIVATIONS[mlp.activation]
        mlp.activation = nn.Identity()


def _gelu_tanh_by_sigmoid(x: Tensor) -> Tensor:
    """Returns `gelu_tanh` of `x`, which is lost: x sigmoid(2 u), where gelu is x (1 + tanh u) / 2.

    u = sqrt(2 / pi) (x + 0.044715 x^3), arXiv 1606.08415. torch's tanh takes three times as long.
    """
    slope = x.new_full((1,), 2 * SQRT_2_BY_PI)
    twice_u = torch.addcmul(slope, x, x, value=0.044715 * 2 * SQRT_2_BY_PI).mul_(x)
    return x.mul_(twice_u.sigmoid_())
