"""Vision encoders at native resolution: cells [N, 3, H, W] -> features [N, P, C].

RICE-ViT, and OneVision-Encoder, which knows time.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from onevision.anyres import Layout
from onevision.config import VisionConfig
from onevision.model.vision import Rotation, VisionBlock
from onevision.native import NativeLayout

THETA = 1e4
# What is encoded together: rows and columns of cells, and the number of each frame.
Window = tuple[int, int, tuple[int, ...]]


class NativeEncoder(nn.Module):
    """A ViT over all patches of a picture or some frames, whose positions are rotations.

    There is no table of positions and no final norm. A class token, if there is one, stands before
    the patches and goes no further; the angles of its position are learned. Patches arrive and
    leave cell by cell.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, size = config.hidden_size, config.patch_size
        self.crop_size, self.side = config.image_size, config.image_size // size
        self.width, half = width, config.head_size // 2
        # How many angles turn by time, row and column.
        self.axes = (half // 4, half * 3 // 8, half * 3 // 8)
        if not config.rotary_time:
            self.axes = (0, half // 2, half // 2)
        self.neighbours = config.rotary_time
        self.patch_embedding = nn.Conv2d(3, width, size, stride=size, bias=False)
        self.token: nn.Parameter | None = None
        self.token_angles: nn.Parameter | None = None
        if config.class_token:
            self.token = nn.Parameter(torch.randn(width) * width**-0.5)
            self.token_angles = nn.Parameter(torch.randn(1, half))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_layers))

    @property
    def sequence_length(self) -> int:
        """Patches of one cell."""
        return self.side**2

    @staticmethod
    def unused() -> list[nn.Module]:
        """Returns no module: all are applied."""
        return []

    def forward(self, pixel_values: Tensor, owners: Sequence[Layout] = ()) -> Tensor:
        """Encodes normalised cells [N, 3, H, W] of the media `owners` -> [N, P, C].

        `owners` hold a layout per cell, and whole pictures or windows of frames; without them,
        every cell is a picture of its own.
        """
        x = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        x = x.flatten(2).transpose(1, 2)  # [N, P, C]
        windows = list(_windows(owners)) or [(1, 1, (0,))] * len(x)
        features, begin = list[Tensor](), 0
        for (rows, cols, num_frames), equal in groupby(windows, key=_shape):
            some = list(equal)
            end = begin + rows * cols * num_frames * len(some)
            features.append(self._encode(x[begin:end], some))
            begin = end
        assert begin == len(x), "pictures and windows are encoded whole"
        return torch.cat(features) if features else x

    def _encode(self, cells: Tensor, windows: Sequence[Window]) -> Tensor:
        """Encodes windows of one shape, `cells` [N, P, C] -> the same shape."""
        x = cells.unflatten(0, (len(windows), -1)).flatten(1, 2)  # [F, S, C]
        angles = torch.stack(
            [patch_angles(window, side=self.side, axes=self.axes) for window in windows]
            if self.axes[0]
            else [patch_angles(windows[0], side=self.side, axes=self.axes)]
        ).to(x.device)  # [F or 1, S, K/2]
        if self.token is not None and self.token_angles is not None:
            x = torch.cat([self.token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
            own = self.token_angles.float().expand(len(angles), 1, -1)
            angles = torch.cat([own, angles], dim=1)
        angles = torch.cat([angles, angles], dim=-1)[:, None]  # [F or 1, 1, S, K]
        rotation = Rotation(angles.cos(), angles.sin(), self.neighbours)
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, rotation)
        return x[:, int(self.token is not None) :].reshape(cells.shape)


def patch_angles(window: Window, *, side: int, axes: tuple[int, int, int]) -> Tensor:
    """Returns the angles [S, K/2] of a window's patches, cell by cell, in fp32.

    The first turn by time, the others by row and by column (EVA-02's rotary positions); `axes` say
    how many there are of each. FIDELITY: OneVision-Encoder pairs neighbouring channels, of which
    each has an angle of its own, so that its "rotations" change lengths.
    """
    rows, cols, numbers = window
    shape = (len(numbers), rows, cols, side, side)
    time = torch.tensor(numbers).view(-1, 1, 1, 1, 1).expand(shape)
    row = torch.arange(rows * side).view(1, rows, 1, side, 1).expand(shape)
    col = torch.arange(cols * side).view(1, 1, cols, 1, side).expand(shape)
    places = zip((time, row, col), axes, strict=True)
    return torch.cat([place.flatten()[:, None] * _speeds(num) for place, num in places], dim=-1)


def _speeds(num: int) -> Tensor:
    return 1.0 / (THETA ** (torch.arange(num).float() / num))


def _windows(owners: Sequence[Layout]) -> Iterator[Window]:
    """Yields the shape and the frame numbers of each picture or window."""
    place = 0
    while place < len(owners):
        layout = owners[place]
        assert isinstance(layout, NativeLayout), "a config has one kind of rule"
        yield layout.rows, layout.cols, layout.numbers or (0,) * (layout.num_frames or 1)
        place += layout.num_crops


def _shape(window: Window) -> tuple[int, int, int]:
    rows, cols, numbers = window
    return rows, cols, len(numbers)
