"""An image or a video -> its crop grid, visual tokens and cost, as numbers and in words.

`explain_drawing.py` draws the same as a picture.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PIL
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.anyres import CropLayout, Layout, VideoLayout, plan, plan_video
from onevision.config import ModelConfig
from onevision.conversation import Image, Video
from onevision.inputs.image import cut_crops, cut_frames
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames


@dataclass(frozen=True, kw_only=True)
class MediaCost:
    """What an image or a video costs before the first token of an answer."""

    num_crops: int
    num_tokens: int
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
    crops: tuple[PillowImage, ...]  # base first, or the frames
    picture: PillowImage | None  # None if only a size was given

    def lines(self) -> list[str]:
        """Describes it in words, one line per fact."""
        layout, cost = self.layout, self.cost
        is_video = isinstance(layout, VideoLayout)
        vision, prefill = _format_flops(cost.vision_flops), _format_flops(cost.prefill_flops)
        crops = "1 crop" if cost.num_crops == 1 else f"{cost.num_crops} crops"
        return [
            *(_video_lines(layout, self.seconds) if is_video else _image_lines(layout)),
            f"{cost.num_tokens:,} visual tokens from {crops}",
            f"cost: {vision} to encode, {prefill} to read, "
            f"{cost.cache_bytes / 2**20:.1f} MiB of key-value cache (16 bit)",
        ]


def explain_image(
    image: Image | tuple[int, int],
    config: ModelConfig,
    *,
    layout: CropLayout | None = None,
    among_several: bool = False,
) -> Explanation:
    """Explains one image, or a (width, height) without pixels. Raises MediaError, InputError.

    Without a `layout` it is laid out as the only image of a conversation, or as one of several if
    `among_several`.
    """
    picture = None if isinstance(image, tuple) else open_image(image.source)
    if isinstance(image, tuple):
        width, height = image
    else:
        assert picture is not None
        width, height = picture.size
    rule = config.inputs.multi_image if among_several else config.inputs.image
    layout = layout or plan(width=width, height=height, rule=rule)
    crops: tuple[PillowImage, ...] = ()
    if picture is not None:
        crops = _to_images(cut_crops(picture, layout, image_mean=config.inputs.image_mean))
    return Explanation(
        name=f"{width} x {height}" if isinstance(image, tuple) else _display_name(image),
        layout=layout,
        cost=estimate_cost(layout, config),
        seconds=None,
        crops=crops,
        picture=picture,
    )


def explain_video(video: Video, config: ModelConfig) -> Explanation:
    """Explains one video. Raises MediaError."""
    choice = choose_frames(video)
    layout = plan_video(num_frames=len(choice.indices), rule=config.inputs.video)
    return Explanation(
        name=_display_name(video),
        layout=layout,
        cost=estimate_cost(layout, config),
        seconds=choice.seconds,
        crops=_to_images(cut_frames(choice.frames(), layout, image_mean=config.inputs.image_mean)),
        picture=None,
    )


def estimate_cost(layout: Layout, config: ModelConfig) -> MediaCost:
    """Estimates the cost of a layout: two operations per weight and token, plus attention."""
    vision, language, tokens = config.vision, config.language, layout.num_tokens
    kv_width = language.num_kv_heads * language.head_size
    per_patch = vision.num_layers * (
        4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
    )
    per_crop = vision.num_patches * per_patch + (
        2 * vision.num_layers * vision.num_patches**2 * vision.hidden_size
    )
    width = language.hidden_size
    per_token = language.num_layers * (
        2 * width**2 + 2 * width * kv_width + 3 * width * language.intermediate_size
    )
    attention = language.num_layers * tokens**2 * width  # causal: half of all pairs
    return MediaCost(
        num_crops=layout.num_crops,
        num_tokens=tokens,
        vision_flops=2.0 * layout.num_crops * per_crop,
        prefill_flops=2.0 * (tokens * per_token + attention),
        cache_bytes=2 * 2 * language.num_layers * kv_width * tokens,
    )


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
    pooled = f"each {layout.side} x {layout.side} patches pooled to {layout.pooled_side} x "
    when = f", from {seconds[0]:.2f} s to {seconds[-1]:.2f} s" if seconds else ""
    return [f"{layout.num_frames} frames{when}; {pooled}{layout.pooled_side} tokens"]


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
