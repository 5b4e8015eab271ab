"""Vision encoder (SigLIP): crops [N, 3, H, W] -> patch features [N, P, C]."""

import torch.nn.functional as F
from torch import Tensor, nn

from onevision.config import VisionConfig
from onevision.model.attention import attend


class VisionEncoder(nn.Module):
    """A ViT without class token, pooling head or final norm; attention is over one crop.

    Features are the output of the last block. FIDELITY: checkpoints also hold a final layer norm,
    which no released model applies; `post_norm` keeps it so that nothing is lost in conversion.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.crop_size = config.image_size
        self.patch_embedding = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(config.num_patches, width)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_layers))
        self.post_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.post_norm.requires_grad_(False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode `pixel_values` [N, 3, H, W], normalised as the checkpoint asks -> [N, P, C]."""
        x = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        x = x.flatten(2).transpose(1, 2)  # [N, C, H/p, W/p] -> [N, P, C], row by row
        x = x + self.position_embedding.weight
        for block in self.blocks:
            x = block(x)
        return x


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP, each added to its input."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.attention = VisionAttention(width, num_heads=config.num_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.mlp = VisionMLP(width, hidden=config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [N, P, C] -> [N, P, C]."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class VisionAttention(nn.Module):
    """Every patch attends to every patch of its crop."""

    def __init__(self, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [N, P, C] -> [N, P, C]."""
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [N, heads, P, K]
            for layer in (self.query, self.key, self.value)
        )
        return self.output(attend(q, k, v).transpose(1, 2).flatten(2))


class VisionMLP(nn.Module):
    """Linear, GELU (tanh form), linear."""

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `x` [N, P, C] -> [N, P, C]."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))
