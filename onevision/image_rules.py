"""How pictures and frames enter a model, as values of its config; anyres.py makes plans by them."""

import math
from dataclasses import dataclass
from typing import Literal

from onevision.errors import ConfigError
from onevision.native import Native

MAX_GRID = 100  # of columns, rows and crops; OneVision has 6 x 6

# How a picture becomes one square crop: squashed, padded to a square, or centre-cropped.
Fit = Literal["squash", "pad", "crop"]
# How the grid's crops become tokens after the base crop: crop by crop; as one map; as one map
# without padding and with a newline after every row; as one map, max-pooled by two.
Merge = Literal["flat", "spatial", "spatial_unpad", "spatial_maxpool2x2"]
Pool = Literal["bilinear", "average", "max"]
VideoNewline = Literal["one_token", "grid", "frame", "no_token"]


@dataclass(frozen=True, kw_only=True)
class CropSize:
    """The square crop that the vision encoder reads, in pixels."""

    crop_size: int = 384
    patch_size: int = 14

    def __post_init__(self) -> None:
        if not 0 < self.patch_size <= self.crop_size:
            raise ConfigError(
                f"patch_size {self.patch_size} must be in 1..crop_size ({self.crop_size})"
            )

    @property
    def side(self) -> int:
        """Patches along one side of a crop; a remainder at the right and bottom is ignored."""
        return self.crop_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class AnyRes(CropSize):
    """Higher AnyRes: a base crop, plus the grid of crops that fits the picture best.

    `max_crops=None` with explicit `grids` is the original AnyRes of LLaVA-NeXT, and LLaVA-1.5-HD.
    """

    # Grids of 1..max_grid columns by 1..max_grid rows, unless `grids` lists them.
    max_grid: int = 6
    # The token budget of the mosaic, in crops ("anyres_max_9"); None keeps every patch.
    max_crops: int | None = 9
    # Explicit grids as (columns, rows), counted in crops. The earlier one wins a tie.
    grids: tuple[tuple[int, int], ...] | None = None
    # Only "spatial_unpad" adds a newline after each row and applies the token budget.
    merge: Merge = "spatial_unpad"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("max_grid", self.max_grid), ("max_crops", self.max_crops)):
            if value is not None and not 1 <= value <= MAX_GRID:
                raise ConfigError(f"{name} is {value}; expected at least 1 and at most {MAX_GRID}")
        if self.grids is None:
            return
        object.__setattr__(self, "grids", tuple((cols, rows) for cols, rows in self.grids))
        if not 1 <= len(self.grids) <= MAX_GRID**2:
            long = "too long" if self.grids else "empty"
            raise ConfigError(f"grids is {long}; expected (columns, rows) pairs, or None")
        for cols, rows in self.grids:
            if not (1 <= cols < self.crop_size and 1 <= rows < self.crop_size):
                raise ConfigError(
                    f"grid ({cols}, {rows}) is not a count of crops; expected (columns, rows) "
                    f"such as (2, 3): divide sizes in pixels by crop_size ({self.crop_size})"
                )

    @property
    def all_grids(self) -> tuple[tuple[int, int], ...]:
        """Every grid as (columns, rows); in a tie the earlier one wins."""
        if self.grids is not None:
            return self.grids
        steps = range(1, self.max_grid + 1)
        return tuple((cols, rows) for cols in steps for rows in steps)


@dataclass(frozen=True, kw_only=True)
class SingleCrop(CropSize):
    """One crop shows the whole picture, or its centre."""

    fit: Fit = "pad"
    # Whether one `image_newline` follows the patches.
    newline: bool = True


@dataclass(frozen=True, kw_only=True)
class VideoRule(CropSize):
    """Every frame is one crop whose patches are pooled by two."""

    fit: Fit = "squash"
    pool: Pool = "bilinear"
    # Whether to pool before the projector, as LLaVA-NeXT-Video's first release does.
    pool_first: bool = False
    # Where `image_newline` goes: after the video, after each row, after each frame, nowhere.
    newline: VideoNewline = "one_token"
    # SlowFast: of so many frames the first is slow, pooled by two, and the others fast, pooled by
    # four; the learned `faster_token` follows each. None: all are pooled by two.
    slow_every: int | None = None
    # Whether words after a video say how long it lasts and when its frames are shown.
    time_instruction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool_first and self.pool == "bilinear":
            raise ConfigError("pool_first with pool 'bilinear'; expected 'average' or 'max'")
        if self.slow_every is None:
            return
        if self.slow_every < 1 or self.newline != "grid" or self.pool_first or not self.fast_side:
            raise ConfigError(
                f"slow_every {self.slow_every} with newline {self.newline!r}, pool_first "
                f"{self.pool_first} and {self.side} patches a side; expected 1 or more with "
                "newline 'grid', no pool_first and 4 patches or more"
            )

    @property
    def pooled_side(self) -> int:
        """Tokens along one side of a pooled frame: bilinear rounds up, the others down."""
        return math.ceil(self.side / 2) if self.pool == "bilinear" else self.side // 2

    @property
    def fast_side(self) -> int:
        """Tokens along one side of a fast frame."""
        return math.ceil(self.side / 4) if self.pool == "bilinear" else self.side // 4


ImageRule = AnyRes | SingleCrop | Native


def has_fast_frames(rule: VideoRule | Native) -> bool:
    """Whether SlowFast makes some frames of a video fast, so that a learned token follows each."""
    return isinstance(rule, VideoRule) and rule.slow_every is not None
