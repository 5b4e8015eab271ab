"""Native resolution: the size of a picture -> its grid of cells, each of which becomes one token.

A *cell* is a square of `merge` x `merge` patches; to everything outside the vision encoder it is a
crop. The picture is resized to whole cells and keeps its shape; nothing is padded or cut off.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from onevision.errors import ConfigError, InputError

# A picture more elongated than this is refused, as in the reference.
MAX_RATIO = 200


@dataclass(frozen=True, kw_only=True)
class Native:
    """Pictures, or frames of a video, at their own size; the defaults are OneVision-1.5's."""

    patch_size: int = 14
    # Patches along one side of a cell.
    merge: int = 2
    # A picture of fewer or more pixels is resized to at least and at most so many.
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 3_240_000
    # Whether the vision encoder reads the number of each frame in its video (OneVision-2).
    frame_numbers: bool = False
    # Frames of a video that the vision encoder sees together.
    window: int = 1

    def __post_init__(self) -> None:
        if min(self.patch_size, self.merge, self.window) < 1:
            raise ConfigError(f"{self}: expected a patch_size, a merge and a window of at least 1")
        least, whole = MAX_RATIO * self.crop_size**2, self.crop_size**2
        if not whole <= self.min_pixels <= self.max_pixels or self.max_pixels < least:
            raise ConfigError(
                f"min_pixels {self.min_pixels} and max_pixels {self.max_pixels} do not fit cells "
                f"of {self.crop_size} px; expected at least {whole} and {least}, in this order"
            )

    @property
    def crop_size(self) -> int:
        """The side of a cell in pixels."""
        return self.patch_size * self.merge

    @property
    def side(self) -> int:
        """Patches along one side of a cell."""
        return self.merge


@dataclass(frozen=True, kw_only=True)
class NativeLayout:
    """How one picture, or some frames of a video, become cells, row by row."""

    width: int  # of the picture or of every frame, in pixels
    height: int
    crop_size: int
    side: int
    cols: int  # the grid, in cells
    rows: int
    num_frames: int | None = None  # None for a picture
    numbers: tuple[int, ...] | None = None  # of the frames in their video, if they matter
    window: int = 1  # frames that the vision encoder sees together
    keep: ClassVar[float] = 1.0  # every token is read
    num_dropped: ClassVar[int] = 0
    num_newlines: ClassVar[int] = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the resized picture or frame, in pixels, as Pillow takes them."""
        return self.cols * self.crop_size, self.rows * self.crop_size

    @property
    def is_video(self) -> bool:
        """Whether the cells are those of frames."""
        return self.num_frames is not None

    @property
    def crops_together(self) -> int:
        """Cells that the vision encoder must see together: those of a picture or a window."""
        return self.cols * self.rows * min(self.window, self.num_frames or 1)

    @property
    def num_crops(self) -> int:
        """Cells to encode, of all frames."""
        return self.cols * self.rows * (self.num_frames or 1)

    @property
    def owners(self) -> list["NativeLayout"]:
        """For every cell, the layout of the picture or window of frames that it is part of."""
        if self.num_frames is None:
            return [self] * self.num_crops
        firsts = range(0, self.num_frames, self.window)
        parts = [self._part(first, min(first + self.window, self.num_frames)) for first in firsts]
        return [part for part in parts for _ in range(part.num_crops)]

    def _part(self, first: int, end: int) -> "NativeLayout":
        numbers = None if self.numbers is None else self.numbers[first:end]
        return replace(self, num_frames=end - first, numbers=numbers)

    @property
    def num_patches(self) -> int:
        """Tokens of patches: one for every cell, of patches that the projector has merged."""
        return self.num_crops

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the model reads: all of them."""
        return self.num_patches


def plan_native(
    *,
    width: int,
    height: int,
    rule: Native,
    num_frames: int | None = None,
    numbers: Sequence[int] | None = None,
) -> NativeLayout:
    """Lays out a picture or the frames of a video, of `width` x `height` pixels.

    `numbers` are those of the frames in the video, by default 0, 1, 2 and so on. The grid is that
    of Qwen2-VL's `smart_resize`. Raises InputError for a picture that is
    empty or too elongated.
    """
    if min(width, height) < 1 or max(width, height) > MAX_RATIO * min(width, height):
        raise InputError(
            f"a picture of {width} x {height} pixels is empty or too elongated; "
            f"expected a long side of at most {MAX_RATIO} short ones"
        )
    size, area = rule.crop_size, width * height
    cols, rows = round(width / size), round(height / size)
    if cols * rows * size**2 > rule.max_pixels:
        scale = math.sqrt(area / rule.max_pixels)
        cols = max(1, math.floor(width / scale / size))
        rows = max(1, math.floor(height / scale / size))
    elif cols * rows * size**2 < rule.min_pixels:
        scale = math.sqrt(rule.min_pixels / area)
        cols, rows = math.ceil(width * scale / size), math.ceil(height * scale / size)
    return NativeLayout(
        width=width,
        height=height,
        crop_size=size,
        side=rule.side,
        cols=cols,
        rows=rows,
        num_frames=num_frames,
        numbers=None
        if num_frames is None or not rule.frame_numbers
        else tuple(range(num_frames) if numbers is None else numbers),
        window=rule.window,
    )
