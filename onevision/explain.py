"""An image or a video -> its crop grid, visual tokens and cost, as numbers and in words.

`explain_drawing.py` draws the same as a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image as PIL
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.anyres import CropLayout, ImageLayout, Layout, VideoLayout, plan, plan_video
from onevision.boxes import Box, Point
from onevision.boxes_drawing import draw_marks
from onevision.config import ModelConfig
from onevision.conversation import Image, Video
from onevision.inputs.image import cut_crops, cut_frames, normalise
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames
from onevision.model.llava import LlavaNetwork
from onevision.native import Native, NativeLayout
from onevision.plural import counted
from onevision.pruning import choose_tokens

CROPS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class MediaCost:
    """What an image or a video costs before the first token of an answer."""

    num_crops: int
    num_tokens: int
    num_dropped: int  # visual tokens that `keep` drops
    vision_flops: float  # to encode its crops
    prefill_flops: float  # to prefill its tokens
    cache_bytes: int  # keys and values, at 2 bytes per number


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One image or video, as a model sees it."""

    name: str
    layout: Layout
    cost: MediaCost
    seconds: tuple[float, ...] | None  # times of the sampled frames, if the video has them
    # Base first, or the frames; none at native resolution, where a crop is one cell.
    crops: tuple[PillowImage, ...]
    picture: PillowImage | None  # None if only a size was given
    # Whether each visual token stays, newlines included; None if all do, or no network was given.
    stays: tuple[bool, ...] | None = None
    # What the model is given after a video beside the user's words.
    words: str | None = None
    # Boxes and points that are drawn on the picture, and so on its crops.
    marks: tuple[Box | Point, ...] = ()

    def lines(self) -> list[str]:
        """Describes it in words, one line per fact."""
        layout, cost = self.layout, self.cost
        vision, prefill = _format_flops(cost.vision_flops), _format_flops(cost.prefill_flops)
        crops = counted(cost.num_crops, "cell" if isinstance(layout, NativeLayout) else "crop")
        whole = cost.num_tokens + cost.num_dropped
        kept = f" of {whole:,} (keep {layout.keep:g})" if cost.num_dropped else ""
        return [
            *_layout_lines(layout, self.seconds),
            *([f'then these words: "{self.words}"'] if self.words else []),
            f"{cost.num_tokens:,}{kept} visual tokens from {crops}",
            f"cost: {vision} to encode, {prefill} to read, "
            f"{cost.cache_bytes / 2**20:.1f} MiB of key-value cache (16 bit)",
            *(_mark_line(number, mark, layout) for number, mark in enumerate(self.marks, start=1)),
        ]


def explain_image(
    image: Image | tuple[int, int],
    config: ModelConfig,
    *,
    layout: ImageLayout | None = None,
    among_several: bool = False,
    keep: float = 1.0,
    network: LlavaNetwork | None = None,
    marks: Sequence[Box | Point] = (),
) -> Explanation:
    """Explains one image, or a (width, height) without pixels. Raises MediaError, InputError.

    Without a `layout` it is laid out as the only image of a conversation, or as one of several if
    `among_several`. Which tokens stay with a `keep` below 1 is known with a `network` alone.
    `marks` are drawn on the picture.
    """
    picture = None if isinstance(image, tuple) else open_image(image.source)
    if isinstance(image, tuple):
        width, height = image
    else:
        assert picture is not None
        width, height = picture.size
        picture = draw_marks(picture, marks) if marks else picture
    rule = config.inputs.multi_image if among_several else config.inputs.image
    layout = layout or plan(width=width, height=height, rule=rule, keep=keep)
    crops: tuple[PillowImage, ...] = ()
    stays = None
    if picture is not None and isinstance(layout, CropLayout):
        pixels = cut_crops(picture, layout, image_mean=config.inputs.image_mean)
        crops, stays = _to_images(pixels), _find_staying(pixels, layout, config, network)
    return Explanation(
        name=f"{width} x {height}" if isinstance(image, tuple) else _display_name(image),
        layout=layout,
        cost=estimate_cost(layout, config),
        seconds=None,
        crops=crops,
        picture=picture,
        stays=stays,
        marks=tuple(marks),
    )


def explain_video(
    video: Video, config: ModelConfig, *, keep: float = 1.0, network: LlavaNetwork | None = None
) -> Explanation:
    """Explains one video; `keep` and `network` as for an image. Raises MediaError."""
    choice = choose_frames(video)
    rule, stays, words = config.inputs.video, None, None
    if isinstance(rule, Native):
        size, pictures = choice.frame_size(), tuple(choice.frames())
        layout = plan_video(
            num_frames=len(pictures),
            rule=rule,
            width=size.width,
            height=size.height,
            numbers=choice.indices,
            keep=keep,
        )
        assert isinstance(layout, NativeLayout), "the rule is native"
        frames = tuple(picture.resize(layout.size) for picture in pictures)
    else:
        layout = plan_video(num_frames=len(choice.indices), rule=rule, keep=keep)
        words = choice.fact(sizes_frames=False).words(rule)
        pixels = cut_frames(choice.frames(), layout, image_mean=config.inputs.image_mean)
        frames, stays = _to_images(pixels), _find_staying(pixels, layout, config, network)
    return Explanation(
        name=_display_name(video),
        layout=layout,
        cost=estimate_cost(layout, config),
        seconds=choice.seconds,
        crops=frames,
        picture=None,
        stays=stays,
        words=words,
    )


def _mark_line(number: int, mark: Box | Point, layout: Layout) -> str:
    """Describes a box or a point in pixels of the picture."""
    assert not isinstance(layout, VideoLayout), "marks are on pictures"
    width, height = layout.width, layout.height
    if isinstance(mark, Point):
        return f"point {number}: {mark.x * width:.0f}, {mark.y * height:.0f} px"
    left, top = mark.left * width, mark.top * height
    size = f"{(mark.right - mark.left) * width:.0f} x {(mark.bottom - mark.top) * height:.0f}"
    return f"box {number}: {size} px at {left:.0f}, {top:.0f}"


def estimate_cost(layout: Layout, config: ModelConfig) -> MediaCost:
    """Estimates the cost of a layout: two operations per weight and token, plus attention."""
    vision, language, tokens = config.vision, config.language, layout.num_tokens
    kv_width = language.num_kv_heads * language.head_size
    # Patches that see each other.
    pairs = sum(owner.crops_together for owner in layout.owners) * vision.num_patches**2
    width, queries = language.hidden_size, language.query_width
    per_token = language.num_layers * (
        2 * width * queries + 2 * width * kv_width + 3 * width * language.intermediate_size
    )
    attention = language.num_layers * tokens**2 * queries  # causal: half of all pairs
    return MediaCost(
        num_crops=layout.num_crops,
        num_tokens=tokens,
        num_dropped=layout.num_dropped,
        vision_flops=layout.num_crops * vision.weight_flops + pairs * vision.attention_flops,
        prefill_flops=2.0 * (tokens * per_token + attention),
        cache_bytes=2 * 2 * language.num_layers * kv_width * tokens,
    )


@torch.inference_mode()
def _find_staying(
    crops: Tensor, layout: Layout, config: ModelConfig, network: LlavaNetwork | None
) -> tuple[bool, ...] | None:
    """Returns whether each visual token stays, by encoding `crops` [N, 3, H, W] uint8."""
    if network is None or isinstance(layout, NativeLayout) or not layout.num_dropped:
        return None
    inputs = config.inputs
    pixels = normalise(crops, mean=inputs.image_mean, std=inputs.image_std)
    whole = network.encode(pixels, (replace(layout, keep=1.0),), crops_at_once=CROPS_AT_ONCE)
    stays = torch.zeros(len(whole), dtype=torch.bool)
    stays[choose_tokens(whole, layout)] = True
    return tuple(stays.tolist())


def _layout_lines(layout: Layout, seconds: tuple[float, ...] | None) -> list[str]:
    if isinstance(layout, NativeLayout):
        return _native_lines(layout, seconds)
    return (
        _video_lines(layout, seconds) if isinstance(layout, VideoLayout) else _image_lines(layout)
    )


def _native_lines(layout: NativeLayout, seconds: tuple[float, ...] | None) -> list[str]:
    when = f", from {seconds[0]:.2f} s to {seconds[-1]:.2f} s" if seconds else ""
    frames = f"{counted(layout.num_frames, 'frame')}{when}, each " if layout.num_frames else ""
    width, height = layout.size
    cells = f"{layout.cols} x {layout.rows} cells of {layout.side} x {layout.side} patches"
    resized = f"{layout.width} x {layout.height} pixels, resized to {width} x {height}"
    lines = [f"{frames}{resized}: {cells}, a token each"]
    if layout.numbers:
        times = seconds or tuple(map(float, range(len(layout.numbers))))
        lines.append(
            f"each frame after its time, <{times[0]:.1f} seconds> to <{times[-1]:.1f} seconds>; "
            f"the encoder turns by frame number, {layout.numbers[0]} to {layout.numbers[-1]}"
        )
    return lines


def _image_lines(layout: CropLayout) -> list[str]:
    size = f"{layout.width} x {layout.height} pixels"
    base = f"base crop {layout.crop_size} x {layout.crop_size}: {layout.side**2} tokens"
    if layout.cols == 0:
        return [f"{size}; {base}"]
    budget = "within the budget"
    if layout.shrunk:
        budget = f"scaled down to {layout.out_cols} x {layout.out_rows} to fit the budget"
    lines = [
        f"{size}, fitted as {layout.resized_width} x {layout.resized_height} into a grid of "
        f"{layout.cols} x {layout.rows} crops; {base}",
        f"after unpadding {layout.kept_cols} x {layout.kept_rows} patches remain, {budget}; "
        f"{layout.out_rows} newlines",
    ]
    if layout.out_rows == 0 or layout.out_cols == 0:
        lines.append("the picture is too thin for a grid: the model sees only the base crop")
    return lines


def _video_lines(layout: VideoLayout, seconds: tuple[float, ...] | None) -> list[str]:
    side, fast = layout.pooled_side, layout.fast_side
    pooled = f"each {layout.side} x {layout.side} patches pooled to {side} x {side} tokens"
    when = f", from {seconds[0]:.2f} s to {seconds[-1]:.2f} s" if seconds else ""
    lines = [f"{counted(layout.num_frames, 'frame')}{when}; {pooled}"]
    if layout.slow_every is not None:
        num_fast = sum(one == fast for one in layout.sides)
        lines.append(
            f"SlowFast: the first of every {layout.slow_every} frames is pooled so, the others "
            f"({num_fast}) to {fast} x {fast}"
        )
    return lines


def _to_images(crops: Tensor) -> tuple[PillowImage, ...]:
    return tuple(PIL.fromarray(crop.permute(1, 2, 0).numpy()) for crop in crops)


def _display_name(media: Image | Video) -> str:
    source = media.source
    return Path(source).name if isinstance(source, str | Path) else type(media).__name__.lower()


def _format_flops(count: float) -> str:
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e6:.3g} MFLOP"
