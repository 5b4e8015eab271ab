"""Geometry: the size of a picture or the length of a video -> its exact number of visual tokens.

`plan(width=..., height=..., rule=...)` decides which crops are cut and which cells of their
mosaic are kept; `plan_video` does the same for frames. The layout they return is computed once,
carried beside the pixels, and obeyed by everything downstream.

Vocabulary: a *crop* is a square of `crop_size` pixels, the input of the vision encoder. A *patch*
is one of its `side * side` cells. The *base* crop shows the whole picture. The *mosaic* is the map
of all patches of a `cols x rows` grid of crops, laid out as in the picture.

The arithmetic is that of the reference implementation (LLaVA-NeXT, `llava/mm_utils.py` and
`llava/model/llava_arch.py`), float by float: released weights were trained on it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from onevision.errors import ConfigError, InputError

# A mosaic is scaled down only when it exceeds its budget by more than this, per side.
SHRINK_TOLERANCE = 1.1

# How a picture becomes one square crop: squashed, padded to a square first, or its middle cut out.
Fit = Literal["squash", "pad", "crop"]
# How the crops of a grid become one sequence after the base crop: crop after crop; as one map; as
# one map without its padding and a newline after every row; as one map pooled by two.
Merge = Literal["flat", "spatial", "spatial_unpad", "spatial_maxpool2x2"]
Pool = Literal["bilinear", "average", "max"]
VideoNewline = Literal["one_token", "grid", "frame", "no_token"]


@dataclass(frozen=True, kw_only=True)
class CropSize:
    """The square that the vision encoder reads, in pixels."""

    crop_size: int = 384
    patch_size: int = 14

    def __post_init__(self) -> None:
        if not 0 < self.patch_size <= self.crop_size:
            raise ConfigError(
                f"patch_size {self.patch_size} must be in 1..crop_size ({self.crop_size})"
            )

    @property
    def side(self) -> int:
        """Patches along one side of a crop; a remainder at the right and bottom is never seen."""
        return self.crop_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class AnyRes(CropSize):
    """Higher AnyRes: a base crop, and a grid of crops chosen to fit the picture.

    With `max_crops=None` and explicit `grids` it is the original AnyRes of LLaVA-NeXT, and the
    high-definition LLaVA-1.5 before it.
    """

    # Grids of 1..max_grid columns by 1..max_grid rows, unless `grids` lists them.
    max_grid: int = 6
    # The token budget of the mosaic, in crops ("anyres_max_9"); None keeps every patch.
    max_crops: int | None = 9
    # Explicit grids as (columns, rows), counted in crops. The earlier one wins a tie.
    grids: tuple[tuple[int, int], ...] | None = None
    # Only "spatial_unpad" ends rows with a newline and keeps to the budget.
    merge: Merge = "spatial_unpad"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_grid < 1:
            raise ConfigError(f"max_grid is {self.max_grid}; expected at least 1")
        if self.max_crops is not None and self.max_crops < 1:
            raise ConfigError(f"max_crops is {self.max_crops}; expected at least 1, or None")
        if self.grids is None:
            return
        object.__setattr__(self, "grids", tuple((cols, rows) for cols, rows in self.grids))
        if not self.grids:
            raise ConfigError("grids is empty; expected (columns, rows) pairs, or None")
        for cols, rows in self.grids:
            if not (1 <= cols < self.crop_size and 1 <= rows < self.crop_size):
                raise ConfigError(
                    f"grid ({cols}, {rows}) is not a count of crops; expected (columns, rows) "
                    f"such as (2, 3): divide sizes in pixels by crop_size ({self.crop_size})"
                )

    @property
    def all_grids(self) -> tuple[tuple[int, int], ...]:
        """Every grid as (columns, rows), in the order in which ties are broken."""
        if self.grids is not None:
            return self.grids
        steps = range(1, self.max_grid + 1)
        return tuple((cols, rows) for cols in steps for rows in steps)


@dataclass(frozen=True, kw_only=True)
class SingleCrop(CropSize):
    """One crop shows the whole picture, or the middle of it."""

    fit: Fit = "pad"
    # Whether one `image_newline` follows the patches.
    newline: bool = True


ImageRule = AnyRes | SingleCrop


@dataclass(frozen=True, kw_only=True)
class VideoRule(CropSize):
    """Every frame is one crop whose patches are pooled by two."""

    fit: Fit = "squash"
    pool: Pool = "bilinear"
    # Whether patches are pooled before the projector, as LLaVA-NeXT-Video's first release does.
    pool_first: bool = False
    # Where `image_newline` stands: after the video, after every row, after every frame, nowhere.
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
    """How one picture becomes crops and visual tokens. Pixels and patches count from top left."""

    width: int  # of the picture, in pixels
    height: int
    crop_size: int
    side: int  # patches per side of a crop
    fit: Fit  # how the base crop is made
    newline: bool  # one after every row of the mosaic, or after the base where it is all there is
    merge: Merge = "spatial_unpad"
    cols: int = 0  # crops beside the base; 0 x 0 where the base is all there is
    rows: int = 0
    resized_width: int = 0  # the picture on its canvas of cols x rows crops, in pixels
    resized_height: int = 0
    left: int = 0
    top: int = 0
    first_row: int = 0  # what remains of the mosaic once padding is cut off, in patches
    first_col: int = 0
    kept_rows: int = 0
    kept_cols: int = 0
    out_rows: int = 0  # what remains after scaling down to the budget, or pooling
    out_cols: int = 0

    @property
    def num_crops(self) -> int:
        """Crops to encode, the base included."""
        return 1 + self.cols * self.rows

    @property
    def num_tokens(self) -> int:
        """Visual tokens: base patches, then the kept mosaic with a newline after every row."""
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
        """Crops to encode: one a frame."""
        return self.num_frames

    @property
    def num_tokens(self) -> int:
        """Visual tokens of all frames, newlines included."""
        rows = self.num_frames * self.pooled_side
        newlines = {"one_token": 1, "grid": rows, "frame": self.num_frames, "no_token": 0}
        return rows * self.pooled_side + newlines[self.newline]


Layout = CropLayout | VideoLayout


def plan(*, width: int, height: int, rule: ImageRule) -> CropLayout:
    """Lay out a picture of `width` x `height` pixels.

    Raises InputError for a size below 1 x 1.
    """
    if width < 1 or height < 1:
        raise InputError(f"a picture of {width} x {height} pixels is empty; expected 1 x 1 or more")
    if isinstance(rule, SingleCrop):
        return CropLayout(
            width=width,
            height=height,
            crop_size=rule.crop_size,
            side=rule.side,
            fit=rule.fit,
            newline=rule.newline,
        )
    return _plan_grid(width, height, rule)


def plan_video(*, num_frames: int, rule: VideoRule) -> VideoLayout:
    """Lay out a video of `num_frames` sampled frames. Raises InputError below one frame."""
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


@lru_cache(maxsize=64)
def max_image_tokens(rule: ImageRule) -> int:
    """The largest number of visual tokens any picture takes under `rule`.

    8,765 for the released models, not (9 + 1) * 729: the tolerance before scaling down lets more
    through. Which grid is chosen depends on the aspect ratio and the area alone, so the maximum is
    found among pictures that fill a canvas in one direction, one for each kept row or column.
    """
    if isinstance(rule, SingleCrop):
        return plan(width=1, height=1, rule=rule).num_tokens
    size, side = rule.crop_size, rule.side
    most = 0
    for cols, rows in rule.all_grids:
        heights = (math.ceil(n * size / side) for n in range(1, rows * side + 1))
        widths = (math.ceil(n * size / side) for n in range(1, cols * side + 1))
        pictures = [(cols * size, height) for height in heights]
        pictures += [(width, rows * size) for width in widths]
        most = max(most, *(_plan_grid(w, h, rule).num_tokens for w, h in pictures))
    return most


def _plan_grid(width: int, height: int, rule: AnyRes) -> CropLayout:
    cols, rows = _choose_grid(width, height, rule)
    canvas_width, canvas_height = cols * rule.crop_size, rows * rule.crop_size

    # Fit the picture into the canvas, centred on black.
    x_scale, y_scale = canvas_width / width, canvas_height / height
    if x_scale < y_scale:
        new_width, new_height = canvas_width, min(math.ceil(height * x_scale), canvas_height)
    else:
        new_width, new_height = min(math.ceil(width * y_scale), canvas_width), canvas_height

    unpadded = rule.merge == "spatial_unpad"
    top, kept_rows, left, kept_cols = 0, rows * rule.side, 0, cols * rule.side
    out_rows, out_cols = kept_rows, kept_cols
    if unpadded:
        top, kept_rows, left, kept_cols = _unpad(width, height, kept_cols, kept_rows)
        out_rows, out_cols = _shrink(kept_rows, kept_cols, rule)
    elif rule.merge == "spatial_maxpool2x2":
        out_rows, out_cols = kept_rows // 2, kept_cols // 2
    return CropLayout(
        width=width,
        height=height,
        crop_size=rule.crop_size,
        side=rule.side,
        fit="squash",
        newline=unpadded,
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
    """Return the (columns, rows) that keep most of the picture's pixels and waste least canvas."""
    best, best_effective, least_waste = rule.all_grids[0], 0, math.inf
    for cols, rows in rule.all_grids:
        canvas_width, canvas_height = cols * rule.crop_size, rows * rule.crop_size
        scale = min(canvas_width / width, canvas_height / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        waste = canvas_width * canvas_height - effective
        if effective > best_effective or (effective == best_effective and waste < least_waste):
            best, best_effective, least_waste = (cols, rows), effective, waste
    return best


def _unpad(width: int, height: int, cols: int, rows: int) -> tuple[int, int, int, int]:
    """Cut the padding off a mosaic of `cols` x `rows` patches.

    Returns first row, kept rows, first column, kept columns. The cut is the same on both sides, so
    one row or column of padding survives where the rest is odd. FIDELITY: the product is floored as
    in the reference; transformers rounds it to seven digits first. With an even `side` the mosaic
    of a very thin picture can come out empty, as in the reference: the base crop is then all.
    """
    if width / height > cols / rows:
        cut = (rows - int(height * (cols / width))) // 2
        return cut, rows - 2 * cut, 0, cols
    cut = (cols - int(width * (rows / height))) // 2
    return 0, rows, cut, cols - 2 * cut


def _shrink(rows: int, cols: int, rule: AnyRes) -> tuple[int, int]:
    """Scale a mosaic of `rows` x `cols` patches down to the budget, if it is well above it."""
    if rule.max_crops is None:
        return rows, cols
    ratio = math.sqrt(rows * cols / (rule.max_crops * rule.side**2))
    if ratio <= SHRINK_TOLERANCE:
        return rows, cols
    return int(rows // ratio), int(cols // ratio)
