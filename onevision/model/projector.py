"""Projector: patch features [N, P, C] -> the width of the language model [N, P, D]."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from onevision.config import ProjectorConfig, VisionConfig
from onevision.model.vision import VisionBlock


class Projector(nn.Module):
    """`num_layers` linear layers with exact (erf) GELU between them.

    If the config merges patches, those of a crop are normed and joined first, square by square, and
    the layers between are as wide as what is joined. If it has blocks, a `Mixer` comes first.
    """

    def __init__(
        self, config: ProjectorConfig, *, vision_width: int, num_patches: int, language_width: int
    ) -> None:
        super().__init__()
        self.square = config.merge**2
        joined = (config.block_width if config.num_blocks else vision_width) * self.square
        hidden = language_width if self.square == 1 else joined
        widths = [joined, *[hidden] * (config.num_layers - 1), language_width]
        self.mixer: Mixer | None = None
        if config.num_blocks:
            self.mixer = Mixer(config, vision_width=vision_width, num_patches=num_patches)
        eps = config.layer_norm_eps
        self.norm = nn.Identity() if self.square == 1 else nn.LayerNorm(vision_width, eps=eps)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Projects `x` [..., P, C] -> [..., P / square, D]."""
        first, *rest = self.layers
        if self.mixer is not None:
            x = self.mixer(x)
        x = self.norm(x).unflatten(-2, (-1, self.square)).flatten(-2)
        x = first(x)
        for layer in rest:
            x = layer(F.gelu(x))
        return x


class Mixer(nn.Module):
    """Transformer blocks in which the patches of one crop attend to each other."""

    def __init__(self, config: ProjectorConfig, *, vision_width: int, num_patches: int) -> None:
        super().__init__()
        width = config.block_width
        block = VisionConfig(
            hidden_size=width, intermediate_size=4 * width, num_heads=config.block_heads
        )
        self.enter_norm = nn.LayerNorm(vision_width, eps=block.layer_norm_eps)
        self.enter = nn.Linear(vision_width, width)
        self.position_embedding = nn.Embedding(num_patches, width)
        self.blocks = nn.ModuleList(VisionBlock(block) for _ in range(config.num_blocks))
        self.leave_norm = nn.LayerNorm(width, eps=block.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes the patches `x` [N, P, C] of each crop -> [N, P, W]."""
        x = self.enter(self.enter_norm(x)) + self.position_embedding.weight
        for block in self.blocks:
            x = block(x)
        return self.leave_norm(x)
