"""Convolutional vision encoder (EfficientNet-Lite): crops [N, 3, H, W] -> features [N, P, C].

Batch norms are folded into the convolutions as weights are read (checkpoint/parts/).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.conv_config import ConvNetConfig, ConvStage


class ConvNet(nn.Module):
    """A trunk of inverted residual blocks; each cell of its last map is a patch.

    Where earlier maps are tapped, a patch holds what lies on its cell in each of them, normed map
    by map, so that none outweighs the others.
    """

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.crop_size, self.sequence_length = config.image_size, config.num_patches
        self.width, self.taps = config.hidden_size, config.tapped_blocks
        self.stem = nn.Conv2d(3, config.stem_width, 3, stride=2)
        self.blocks, width = nn.ModuleList(), config.stem_width
        for stage in config.stages:
            for index in range(stage.num_blocks):
                stride = 1 if index else stage.stride
                self.blocks.append(ConvBlock(stage, in_width=width, stride=stride))
                width = stage.width

    def unused(self) -> list[nn.Module]:
        """Returns the modules that are never applied: none."""
        return []

    def forward(self, pixel_values: Tensor, _owners: Sequence[Layout] = ()) -> Tensor:
        """Encodes normalised `pixel_values` [N, 3, H, W] -> [N, P, C], each crop for itself."""
        # Channels last: a sixth faster on a CPU in fp32, a third in bf16.
        x = pixel_values.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = F.relu6(same(self.stem, x), inplace=True)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        if not maps:
            return x.flatten(2).transpose(1, 2)  # [N, C, H/p, W/p] -> [N, P, C]
        return torch.cat([gather(one, side=x.shape[-1]) for one in maps], dim=-1)


class ConvBlock(nn.Module):
    """Widens, filters each channel alone, narrows; added to its input where the shapes agree."""

    def __init__(self, stage: ConvStage, *, in_width: int, stride: int) -> None:
        super().__init__()
        inner, size = in_width * stage.expansion, stage.kernel_size
        self.expand = None if stage.expansion == 1 else nn.Conv2d(in_width, inner, 1)
        around = (size - stride) // 2
        self.filter = nn.Conv2d(inner, inner, size, stride=stride, padding=around, groups=inner)
        self.project = nn.Conv2d(inner, stage.width, 1)
        self.residual = stride == 1 and in_width == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """Transforms `x` [N, C, H, W] -> [N, C', H/stride, W/stride]."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(same(self.filter, y), inplace=True))
        return x + y if self.residual else y


def gather(x: Tensor, *, side: int) -> Tensor:
    """Brings a map [N, C, s side, s side] to cells [N, side side, C s s], each of them normed."""
    cells = F.pixel_unshuffle(x, x.shape[-1] // side).flatten(2).transpose(1, 2)
    return F.layer_norm(cells, cells.shape[-1:])


def same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Filters `x` [N, C, H, W] -> [N, C', H/stride, W/stride], with TensorFlow's zeros around.

    `conv` pads alike on all sides; where their number is odd, one more is right and below.
    """
    odd = (conv.kernel_size[0] - conv.stride[0]) % 2
    return conv(F.pad(x, (0, odd, 0, odd)) if odd else x)
