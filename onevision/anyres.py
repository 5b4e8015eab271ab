"""AnyRes geometry: the size of an image or video -> its crops and exact number of visual tokens.

`plan(width=..., height=..., rule=...)` decides which crops are cut and which patches are kept,
`plan_video` the same for frames. Everything downstream follows the layout that they return.

Vocabulary: a *crop* is a square of `crop_size` pixels, the input of the vision encoder. A *patch*
is one of its `side * side` cells. The *base* crop shows the whole picture. The *mosaic* is the map
of all patches of a `cols x rows` grid of crops, laid out as in the picture.

The floating-point arithmetic reproduces the reference implementation exactly (LLaVA-NeXT,
`llava/mm_utils.py` and `llava/model/llava_arch.py`), since released weights were trained on it.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from onevision.errors import ConfigError, InputError

# A mosaic is scaled down only if its side exceeds the budget by more than this factor.
SHRINK_TOLERANCE = 1.1
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


ImageRule = AnyRes | SingleCrop


@dataclass(frozen=True, kw_only=True)
class VideoRule(CropSize):
    """Every frame is one crop whose patches are pooled by two."""

    fit: Fit = "squash"
    pool: Pool = "bilinear"
    # Whether to pool before the projector, as LLaVA-NeXT-Video's first release does.
    pool_first: bool = False
    # Where `image_newline` goes: after the video, after each row, after each frame, nowhere.
    newline: VideoNewline = "one_token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool_first and self.pool == "bilinear":
            raise ConfigError("pool_first with pool 'bilinear'; expected 'average' or 'max'")

    @property
    def pooled_side(self) -> int:
        """Tokens along one side of a pooled frame: bilinear rounds up, the others down."""
        return math.ceil(self.side / 2) if self.pool == "bilinear" else self.side // 2


@dataclass(frozen=True, kw_only=True)
class CropLayout:
    """How one picture becomes crops and visual tokens. Coordinates start at the top left."""

    width: int  # of the picture, in pixels
    height: int
    crop_size: int
    side: int  # patches per side of a crop
    fit: Fit  # how the base crop is made
    newline: bool  # after every row of the mosaic, or after the base crop if there is no grid
    merge: Merge = "spatial_unpad"
    cols: int = 0  # the grid, in crops; 0 x 0 if there is only the base crop
    rows: int = 0
    resized_width: int = 0  # the picture within the canvas of cols x rows crops, in pixels
    resized_height: int = 0
    left: int = 0
    top: int = 0
    first_row: int = 0  # the mosaic without its padding, in patches
    first_col: int = 0
    kept_rows: int = 0
    kept_cols: int = 0
    out_rows: int = 0  # after scaling down to the budget, or after pooling
    out_cols: int = 0

    @property
    def num_crops(self) -> int:
        """Crops to encode, the base included."""
        return 1 + self.cols * self.rows

    @property
    def num_tokens(self) -> int:
        """Visual tokens: base patches, then the mosaic with a newline after every row."""
        if self.cols == 0:
            return self.side**2 + int(self.newline)
        return self.side**2 + self.out_rows * (self.out_cols + int(self.newline))

    @property
    def shrunk(self) -> bool:
        """Whether the mosaic is scaled down to its budget."""
        return (self.out_rows, self.out_cols) != (self.kept_rows, self.kept_cols)


@dataclass(frozen=True, kw_only=True)
class VideoLayout:
    """How the frames of one video become visual tokens."""

    num_frames: int
    crop_size: int
    side: int
    pooled_side: int
    pool: Pool
    newline: VideoNewline
    fit: Fit = "squash"
    pool_first: bool = False

    @property
    def num_crops(self) -> int:
        """Crops to encode: one per frame."""
        return self.num_frames

    @property
    def num_tokens(self) -> int:
        """Visual tokens of all frames, newlines included."""
        rows = self.num_frames * self.pooled_side
        newlines = {"one_token": 1, "grid": rows, "frame": self.num_frames, "no_token": 0}
        return rows * self.pooled_side + newlines[self.newline]


Layout = CropLayout | VideoLayout


def plan(*, width: int, height: int, rule: ImageRule) -> CropLayout:
    """Lays out a picture of `width` x `height` pixels. Raises InputError below 1 x 1."""
    if min(width, height) < 1:
        raise InputError(f"a picture of {width} x {height} pixels is empty; expected 1 x 1 or more")
    is_single = isinstance(rule, SingleCrop)
    base = CropLayout(
        width=width,
        height=height,
        crop_size=rule.crop_size,
        side=rule.side,
        fit=rule.fit if is_single else "squash",
        newline=rule.newline if is_single else rule.merge == "spatial_unpad",
    )
    return base if is_single else _add_grid(base, rule)


def plan_video(*, num_frames: int, rule: VideoRule) -> VideoLayout:
    """Lays out a video of `num_frames` sampled frames. Raises InputError below one frame."""
    if num_frames < 1:
        raise InputError(f"a video of {num_frames} frames is empty; expected 1 frame or more")
    return VideoLayout(
        num_frames=num_frames,
        crop_size=rule.crop_size,
        side=rule.side,
        pooled_side=rule.pooled_side,
        pool=rule.pool,
        newline=rule.newline,
        fit=rule.fit,
        pool_first=rule.pool_first,
    )


def _add_grid(base: CropLayout, rule: AnyRes) -> CropLayout:
    width, height = base.width, base.height
    cols, rows = _choose_grid(width, height, rule)
    canvas_width, canvas_height = cols * rule.crop_size, rows * rule.crop_size

    # Fit the picture into the canvas, centred on black.
    scale = min(canvas_width / width, canvas_height / height)
    new_width = min(math.ceil(width * scale), canvas_width)
    new_height = min(math.ceil(height * scale), canvas_height)

    top, kept_rows, left, kept_cols = 0, rows * rule.side, 0, cols * rule.side
    out_rows, out_cols = kept_rows, kept_cols
    if rule.merge == "spatial_unpad":
        top, kept_rows, left, kept_cols = _unpad(width, height, kept_cols, kept_rows)
        out_rows, out_cols = _shrink(kept_rows, kept_cols, rule)
    elif rule.merge == "spatial_maxpool2x2":
        out_rows, out_cols = kept_rows // 2, kept_cols // 2
    return replace(
        base,
        merge=rule.merge,
        cols=cols,
        rows=rows,
        resized_width=new_width,
        resized_height=new_height,
        left=(canvas_width - new_width) // 2,
        top=(canvas_height - new_height) // 2,
        first_row=top,
        first_col=left,
        kept_rows=kept_rows,
        kept_cols=kept_cols,
        out_rows=out_rows,
        out_cols=out_cols,
    )


def _choose_grid(width: int, height: int, rule: AnyRes) -> tuple[int, int]:
    """Returns the (columns, rows) that keep the most pixels and, in a tie, waste least canvas."""

    def rank(grid: tuple[int, int]) -> tuple[int, int]:
        canvas_width, canvas_height = grid[0] * rule.crop_size, grid[1] * rule.crop_size
        scale = min(canvas_width / width, canvas_height / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - canvas_width * canvas_height

    return max(rule.all_grids, key=rank)  # the first of equals


def _unpad(width: int, height: int, cols: int, rows: int) -> tuple[int, int, int, int]:
    """Cuts the padding off a mosaic of `cols` x `rows` patches.

    Returns first row, kept rows, first column, kept columns. Both sides are cut equally, so one row
    or column of padding survives if the remainder is odd. FIDELITY: the product is floored as in
    the reference; transformers rounds it to seven digits first. With an even `side` the mosaic of
    a very thin picture can come out empty, as in the reference, which leaves only the base crop.
    """
    if width / height > cols / rows:
        cut = (rows - int(height * (cols / width))) // 2
        return cut, rows - 2 * cut, 0, cols
    cut = (cols - int(width * (rows / height))) // 2
    return 0, rows, cut, cols - 2 * cut


def _shrink(rows: int, cols: int, rule: AnyRes) -> tuple[int, int]:
    """Scales a mosaic of `rows` x `cols` patches down to the budget if it is well above it."""
    budget = math.inf if rule.max_crops is None else rule.max_crops * rule.side**2
    ratio = math.sqrt(rows * cols / budget)
    if ratio <= SHRINK_TOLERANCE:
        return rows, cols
    return int(rows // ratio), int(cols // ratio)
