"""AnyRes geometry: the size of an image or video -> its crops and exact number of visual tokens.

`plan(width=..., height=..., rule=...)` decides which crops are cut and which patches are kept,
`plan_video` the same for frames. Everything downstream follows the layout that they return.

Vocabulary: a *crop* is a square of `crop_size` pixels, the input of the vision encoder. A *patch*
is one of its `side * side` cells. The *base* crop shows the whole picture. The *mosaic* is the map
of all patches of a `cols x rows` grid of crops, laid out as in the picture. `grid.py` has the
arithmetic.

With `keep` below 1 the model reads that share of the patches' tokens, rounded to the nearest (half
up): at least one of a picture, and one of every frame. Newlines always stay.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from onevision.errors import InputError
from onevision.grid import choose_grid, shrink, unpad
from onevision.image_rules import (
    AnyRes,
    Fit,
    ImageRule,
    Merge,
    Pool,
    SingleCrop,
    VideoNewline,
    VideoRule,
)
from onevision.native import Native, NativeLayout, plan_native


@dataclass(frozen=True, kw_only=True)
class CropLayout:
    """How one picture becomes crops and visual tokens. Coordinates start at the top left."""

    is_video: ClassVar[bool] = False
    crops_together: ClassVar[int] = 1  # that the vision encoder must see together
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
    keep: float = 1.0  # share of the patches' tokens that the model reads

    @property
    def num_crops(self) -> int:
        """Crops to encode, the base included."""
        return 1 + self.cols * self.rows

    @property
    def owners(self) -> list["CropLayout"]:
        """For every crop, the layout of what the vision encoder sees with it: this one."""
        return [self] * self.num_crops

    @property
    def num_newlines(self) -> int:
        """Newlines: one after every row of the mosaic, or one after the base."""
        return int(self.newline) * (self.out_rows if self.cols else 1)

    @property
    def num_dropped(self) -> int:
        """Tokens of patches that `keep` drops."""
        return _count_dropped(self.num_patches, self.keep, least=1)

    @property
    def num_patches(self) -> int:
        """Tokens of patches before any is left out: those of the base, then of the mosaic."""
        return self.side**2 + self.out_rows * self.out_cols

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the model reads, newlines included."""
        return self.num_patches - self.num_dropped + self.num_newlines

    @property
    def shrunk(self) -> bool:
        """Whether the mosaic is scaled down to its budget."""
        return (self.out_rows, self.out_cols) != (self.kept_rows, self.kept_cols)


@dataclass(frozen=True, kw_only=True)
class VideoLayout:
    """How the frames of one video become visual tokens."""

    is_video: ClassVar[bool] = True
    crops_together: ClassVar[int] = 1
    num_frames: int
    crop_size: int
    side: int
    pooled_side: int
    pool: Pool
    newline: VideoNewline
    fit: Fit = "squash"
    pool_first: bool = False
    keep: float = 1.0  # share of the patches' tokens that the model reads
    slow_every: int | None = None  # SlowFast: which frames are slow; None: there are no fast ones
    fast_side: int = 0

    @property
    def num_crops(self) -> int:
        """Crops to encode: one per frame."""
        return self.num_frames

    @property
    def owners(self) -> list["VideoLayout"]:
        """For every frame, the layout of what the vision encoder sees with it: this one."""
        return [self] * self.num_crops

    @property
    def sides(self) -> tuple[int, ...]:
        """Tokens along one side of each frame."""
        slow_every = self.slow_every or 1
        return tuple(
            self.fast_side if number % slow_every else self.pooled_side
            for number in range(self.num_frames)
        )

    @property
    def num_newlines(self) -> int:
        """Newlines of all frames; with SlowFast also the tokens that end them."""
        if self.newline == "grid":
            return sum(self.sides) + (self.num_frames if self.slow_every else 0)
        return {"one_token": 1, "frame": self.num_frames, "no_token": 0}[self.newline]

    @property
    def num_dropped(self) -> int:
        """Tokens of patches that `keep` drops."""
        return _count_dropped(self.num_patches, self.keep, least=self.num_frames)

    @property
    def num_patches(self) -> int:
        """Tokens of pooled patches of all frames, before any is left out."""
        return sum(side**2 for side in self.sides)

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the model reads, newlines included."""
        return self.num_patches - self.num_dropped + self.num_newlines


ImageLayout = CropLayout | NativeLayout
Layout = CropLayout | VideoLayout | NativeLayout


def plan(*, width: int, height: int, rule: ImageRule, keep: float = 1.0) -> ImageLayout:
    """Lays out a picture of `width` x `height` pixels.

    Raises InputError below 1 x 1, and for a `keep` below 1 at native resolution.
    """
    if min(width, height) < 1:
        raise InputError(f"a picture of {width} x {height} pixels is empty; expected 1 x 1 or more")
    if isinstance(rule, Native):
        _refuse_keep(keep)
        return plan_native(width=width, height=height, rule=rule)
    is_single = isinstance(rule, SingleCrop)
    base = CropLayout(
        width=width,
        height=height,
        crop_size=rule.crop_size,
        side=rule.side,
        fit=rule.fit if is_single else "squash",
        newline=rule.newline if is_single else rule.merge == "spatial_unpad",
        keep=keep,
    )
    return base if is_single else _add_grid(base, rule)


def plan_video(
    *,
    num_frames: int,
    rule: VideoRule | Native,
    width: int = 640,
    height: int = 480,
    numbers: Sequence[int] | None = None,
    keep: float = 1.0,
) -> VideoLayout | NativeLayout:
    """Lays out a video of `num_frames` sampled frames.

    Their size, and their `numbers` in the video, matter to `Native` alone.

    Raises InputError below one frame, and for a `keep` below 1 at native resolution or with
    SlowFast.
    """
    if num_frames < 1:
        raise InputError(f"a video of {num_frames} frames is empty; expected 1 frame or more")
    if isinstance(rule, Native):
        _refuse_keep(keep)
        return plan_native(
            width=width, height=height, rule=rule, num_frames=num_frames, numbers=numbers
        )
    if rule.slow_every is not None and keep != 1:
        raise InputError(
            f"keep={keep:g}, but this model reads most frames of a video small already (SlowFast); "
            "expected no keep"
        )
    return VideoLayout(
        num_frames=num_frames,
        crop_size=rule.crop_size,
        side=rule.side,
        pooled_side=rule.pooled_side,
        pool=rule.pool,
        newline=rule.newline,
        fit=rule.fit,
        pool_first=rule.pool_first,
        keep=keep,
        slow_every=rule.slow_every,
        fast_side=rule.fast_side,
    )


def _refuse_keep(keep: float) -> None:
    if keep != 1:
        raise InputError(
            f"keep={keep:g}, but this model reads pictures at native resolution, where every cell "
            "becomes a token and none is left out; expected no keep"
        )


def _count_dropped(num_patches: int, keep: float, *, least: int) -> int:
    return num_patches - max(least, math.floor(keep * num_patches + 0.5))


def _add_grid(base: CropLayout, rule: AnyRes) -> CropLayout:
    width, height = base.width, base.height
    cols, rows = choose_grid(width, height, rule.all_grids, crop_size=rule.crop_size)
    canvas_width, canvas_height = cols * rule.crop_size, rows * rule.crop_size

    # Fit the picture into the canvas, centred on black.
    scale = min(canvas_width / width, canvas_height / height)
    new_width = min(math.ceil(width * scale), canvas_width)
    new_height = min(math.ceil(height * scale), canvas_height)

    top, kept_rows, left, kept_cols = 0, rows * rule.side, 0, cols * rule.side
    out_rows, out_cols = kept_rows, kept_cols
    if rule.merge == "spatial_unpad":
        top, kept_rows, left, kept_cols = unpad(width, height, kept_cols, kept_rows)
        budget = None if rule.max_crops is None else rule.max_crops * rule.side**2
        out_rows, out_cols = shrink(kept_rows, kept_cols, budget=budget)
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
