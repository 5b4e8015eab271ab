"""Projector: patch features [N, P, C] -> the width of the language model [N, P, D]."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from onevision.config import ProjectorConfig


class Projector(nn.Module):
    """`num_layers` linear layers with exact (erf) GELU between them."""

    def __init__(self, config: ProjectorConfig, *, vision_width: int, language_width: int) -> None:
        super().__init__()
        widths = [vision_width] + [language_width] * config.num_layers
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Projects `x` [..., C] -> [..., D]."""
        first, *rest = self.layers
        x = first(x)
        for layer in rest:
            x = layer(F.gelu(x))
        return x
