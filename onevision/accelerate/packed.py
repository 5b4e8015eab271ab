"""Linear layers in the weight layout that a CPU multiplies fastest, for inference.

Given plain weights, oneDNN rearranges them for its kernels on every call, or takes a slower path
for a few rows. Packed once, bf16 gives the same bits 2.5 times as fast for one row and a tenth
faster for hundreds, and fp32 runs twice as fast (docs/performance.md). The plain weights are given
up. The activation of an MLP is computed with its product, before the product is rounded.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.accelerate.stored_embedding import StoredEmbedding
from onevision.model.decoder import SwiGLU
from onevision.model.vision import VisionMLP, gelu_tanh

# oneDNN's names for the activations it computes with a product: the kind and the algorithm.
ONEDNN_ACTIVATIONS: Mapping[Callable[..., Tensor], tuple[str, str]] = {
    F.silu: ("swish", ""),
    F.gelu: ("gelu", "none"),
    gelu_tanh: ("gelu", "tanh"),
}


class PackedLinear(nn.Module):
    """A linear layer whose weight has oneDNN's own layout, and the activation after it, if any."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias, self.activation = linear.bias, ("none", "")
        # Neither a parameter nor a buffer: it cannot be trained, moved or saved.
        self.packed = [torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())]

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [..., K] -> [..., N]."""
        kind, algorithm = self.activation
        return torch.ops.mkldnn._linear_pointwise(x, self.packed[0], self.bias, kind, [], algorithm)


def pack(module: nn.Module) -> None:
    """Packs every linear layer inside `module` whose device and type oneDNN supports."""
    # No list of the linear layers: each is freed as soon as it is packed.
    for part in [part for part in module.modules() if not isinstance(part, nn.Linear)]:
        for name in [name for name, _ in part.named_children()]:
            child = part.get_submodule(name)
            if type(child) is nn.Linear and can_pack(child.weight):
                part.add_module(name, PackedLinear(child))
        if isinstance(part, SwiGLU | VisionMLP):
            _fuse_activation(part)


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN has a layout of its own for `weight` on this processor."""
    is_here = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return is_here and can_multiply(weight.dtype)


def can_multiply(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies in `dtype` on this processor: bf16 needs AVX-512 or the like."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor inside `module` by name; `state_dict` lacks packed and stored ones."""
    yield from module.state_dict().items()
    for name, part in module.named_modules():
        if isinstance(part, PackedLinear):
            yield f"{name}.weight", part.packed[0].to_dense()
        elif isinstance(part, StoredEmbedding):
            yield f"{name}.weight", part.rows[0]


def _fuse_activation(mlp: SwiGLU | VisionMLP) -> None:
    layer = mlp.gate if isinstance(mlp, SwiGLU) else mlp.up
    if isinstance(layer, PackedLinear) and mlp.activation in ONEDNN_ACTIVATIONS:
        layer.activation = ONEDNN_ACTIVATIONS[mlp.activation]
        mlp.activation = nn.Identity()
