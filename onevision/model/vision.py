"""Vision encoder (SigLIP, CLIP): crops [N, 3, H, W] -> patch features [N, P, C]."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.config import Activation, VisionConfig
from onevision.model.attention import Attend, attend, rotate, rotate_neighbours


class Rotation(NamedTuple):
    """The cosine and sine [S, K] or [N, 1, S, K] of positions, and which channels are pairs."""

    cos: Tensor
    sin: Tensor
    neighbours: bool = False  # (2 i, 2 i + 1) in place of (i, i + K/2)


def gelu_tanh(x: Tensor) -> Tensor:
    """Returns SigLIP's approximation of GELU, by tanh."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """Returns x * sigmoid(1.702 x), CLIP's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "gelu_tanh": gelu_tanh,
        "quick_gelu": quick_gelu,
        "gelu": F.gelu,
    }
)


class VisionEncoder(nn.Module):
    """A ViT without pooling head or final norm; each crop attends to itself alone.

    Features are the patch outputs of the last block that runs. FIDELITY: checkpoints also hold a
    final layer norm and, for CLIP, one more block, which no released model applies; `post_norm` and
    the spare `blocks` keep them so that conversion loses nothing.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.crop_size = config.image_size
        self.num_layers, self.first_patch = config.num_layers, int(config.class_token)
        num_blocks = config.num_layers + config.num_spare_layers
        self.patch_embedding = nn.Conv2d(
            3, width, config.patch_size, stride=config.patch_size, bias=not config.class_token
        )
        self.position_embedding = nn.Embedding(self.first_patch + config.num_patches, width)
        self.begin = ClassToken(config) if config.class_token else Positions()
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(num_blocks))
        self.post_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        for unused in self.unused():
            unused.requires_grad_(False)

    def unused(self) -> list[nn.Module]:
        """Returns the modules that are kept for conversion and never applied."""
        return [self.post_norm, *self.blocks[self.num_layers :]]

    @property
    def width(self) -> int:
        """The width C of its features."""
        return self.position_embedding.embedding_dim

    @property
    def sequence_length(self) -> int:
        """Patches that attend to each other, and the class token."""
        return self.position_embedding.num_embeddings

    def forward(self, pixel_values: Tensor, _owners: Sequence[Layout] = ()) -> Tensor:
        """Encodes normalised `pixel_values` [N, 3, H, W] -> [N, P, C], each crop for itself."""
        x = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        x = x.flatten(2).transpose(1, 2)  # [N, C, H/p, W/p] -> [N, P, C], row by row
        x = self.begin(x, self.position_embedding.weight)
        for block in islice(self.blocks, self.num_layers):
            x = block(x)
        return x[:, self.first_patch :]


class Positions(nn.Module):
    """SigLIP's first step: learned positions are added to the patches."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Adds `positions` [P, C] to `x` [N, P, C]."""
        return x + positions


class ClassToken(nn.Module):
    """CLIP's first step: a learned token before the patches, then positions, then a norm."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(config.hidden_size) * config.hidden_size**-0.5)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turns `x` [N, P, C] and `positions` [1 + P, C] into [N, 1 + P, C]."""
        token = self.token.to(x.dtype).expand(len(x), 1, -1)
        return self.norm(torch.cat([token, x], dim=1) + positions)


def turn(heads: Tensor, rotation: Rotation | None) -> Tensor:
    """Turns queries or keys [N, heads, P, K] in fp32, if there is a `rotation`; keeps the dtype."""
    if rotation is None:
        return heads
    function = rotate_neighbours if rotation.neighbours else rotate
    return function(heads.float(), (rotation.cos, rotation.sin)).to(heads.dtype)


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP, each added to its input."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.attention = VisionAttention(width, num_heads=config.num_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = VisionMLP(
            width, hidden=config.intermediate_size, activation=ACTIVATIONS[config.activation]
        )

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Transforms `x` [N, P, C] -> [N, P, C]; `rotation` is as in `VisionAttention`."""
        x = x + self.attention(self.attention_norm(x), rotation)
        return x + self.mlp(self.mlp_norm(x))


class VisionAttention(nn.Module):
    """Self-attention over the patches of one crop or picture."""

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attend: Attend = attend
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Transforms `x` [N, P, C] -> [N, P, C].

        `rotation`, if positions are not added before, turns queries and keys.
        """
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [N, heads, P, K]
            for layer in (self.query, self.key, self.value)
        )
        q, k = turn(q, rotation), turn(k, rotation)
        return self.output(self.attend(q, k, v).transpose(1, 2).flatten(2))


class VisionMLP(nn.Module):
    """Linear, GELU or a variant, linear."""

    def __init__(self, width: int, *, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [N, P, C] -> [N, P, C]."""
        return self.down(self.activation(self.up(x)))
