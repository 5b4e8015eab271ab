"""A picture or a video -> how it is cut into crops and tokens, as numbers and as a drawing.

+--------------------------------------------------------------+
|  title: size, grid, tokens, cost                             |
|  +------+   +-----------------------------+   +-----------+  |
|  | base |   | canvas: crop grid, padding  |   | tokens as |  |
|  +------+   | shaded, kept region framed  |   | kept      |  |
|             +-----------------------------+   +-----------+  |
+--------------------------------------------------------------+
"""

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PIL
from PIL import ImageDraw, ImageFont
from PIL.Image import Image as PillowImage
from torch import Tensor

from onevision.anyres import CropLayout, Layout, VideoLayout, plan, plan_video
from onevision.config import ModelConfig
from onevision.conversation import Image, Video
from onevision.inputs.image import cut_crops, cut_frames
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames

INK, PAPER, FAINT = (32, 36, 44), (255, 255, 255), (122, 130, 144)
GRID, KEPT, PADDING = (214, 64, 69), (24, 119, 242), (236, 238, 242)
PANEL_HEIGHT, GAP, MARGIN = 360, 36, 32
MAX_FRAMES_DRAWN = 32
# Cells smaller than this (pixels) are drawn without lines between them.
MIN_VISIBLE_CELL = 6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a medium costs before the first word of an answer."""

    num_crops: int
    num_tokens: int
    vision_flops: float  # encoding its crops
    prefill_flops: float  # reading its tokens
    cache_bytes: int  # keys and values, at 2 bytes a number


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One picture or video, as a model sees it."""

    name: str
    layout: Layout
    cost: Cost
    seconds: tuple[float, ...] | None  # of the sampled frames, where the video has times
    crops: tuple[PillowImage, ...]  # base first, or the frames
    picture: PillowImage | None  # None where only a size was given

    def lines(self) -> list[str]:
        """Say it in words, a line a fact."""
        layout, cost = self.layout, self.cost
        return [
            *(_video_lines(layout, self.seconds) if isinstance(layout, VideoLayout)
              else _image_lines(layout)),
            f"{cost.num_tokens:,} visual tokens from {cost.num_crops} "
            f"crop{'s' * (cost.num_crops > 1)}",
            f"cost: {_flops(cost.vision_flops)} to encode, {_flops(cost.prefill_flops)} to read, "
            f"{cost.cache_bytes / 2**20:.1f} MiB of key-value cache (16 bit)",
        ]  # fmt: skip


def explain_image(
    image: Image | tuple[int, int], config: ModelConfig, *, layout: CropLayout | None = None
) -> Explanation:
    """Explain one image, or a (width, height) without pixels. Raises MediaError, InputError.

    It is laid out as a conversation's only image unless its `layout` is given.
    """
    picture = None if isinstance(image, tuple) else open_image(image.source)
    if isinstance(image, tuple):
        width, height = image
    else:
        assert picture is not None
        width, height = picture.size
    layout = layout or plan(width=width, height=height, rule=config.inputs.image)
    crops: tuple[PillowImage, ...] = ()
    if picture is not None:
        crops = _pictures(cut_crops(picture, layout, image_mean=config.inputs.image_mean))
    return Explanation(
        name=f"{width} x {height}" if isinstance(image, tuple) else _name(image),
        layout=layout,
        cost=cost_of(layout, config),
        seconds=None,
        crops=crops,
        picture=picture,
    )


def explain_video(video: Video, config: ModelConfig) -> Explanation:
    """Explain one video. Raises MediaError."""
    choice = choose_frames(video)
    layout = plan_video(num_frames=len(choice.indices), rule=config.inputs.video)
    return Explanation(
        name=_name(video),
        layout=layout,
        cost=cost_of(layout, config),
        seconds=choice.seconds,
        crops=_pictures(cut_frames(choice.frames(), layout, image_mean=config.inputs.image_mean)),
        picture=None,
    )


def cost_of(layout: Layout, config: ModelConfig) -> Cost:
    """Count what a layout costs: two operations per weight and token, plus attention."""
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
    return Cost(
        num_crops=layout.num_crops,
        num_tokens=tokens,
        vision_flops=2.0 * layout.num_crops * per_crop,
        prefill_flops=2.0 * (tokens * per_token + attention),
        cache_bytes=2 * 2 * language.num_layers * kv_width * tokens,
    )


def draw(explanation: Explanation) -> PillowImage:
    """Draw an explanation as an RGB image."""
    if isinstance(explanation.layout, VideoLayout):
        panels = [_filmstrip(explanation)]
    else:
        panels = _image_panels(explanation.layout, explanation)
    lines = explanation.lines()
    title, text = _font(26), _font(17)
    top = MARGIN + 40 + 26 * len(lines) + GAP
    width = 2 * MARGIN + sum(p.width for p in panels) + GAP * (len(panels) - 1)
    widest = max(text.getlength(line) for line in lines)
    width = max(width, int(widest) + 2 * MARGIN)
    page = PIL.new("RGB", (width, top + max(p.height for p in panels) + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), explanation.name, font=title, fill=INK)
    for number, line in enumerate(lines):
        pen.text((MARGIN, MARGIN + 44 + 26 * number), line, font=text, fill=INK)
    left = MARGIN
    for panel in panels:
        page.paste(panel, (left, top))
        left += panel.width + GAP
    return page


def _image_panels(layout: CropLayout, explanation: Explanation) -> list[PillowImage]:
    picture = explanation.picture or PIL.new("RGB", (layout.width, layout.height), PADDING)
    base = _captioned(_base_panel(layout, explanation, picture), "base crop: the whole picture")
    if layout.cols == 0:
        return [base]
    kept = f"{layout.kept_cols} x {layout.kept_rows} patches kept"
    canvas = _captioned(
        _canvas_panel(layout, picture), f"grid {layout.cols} x {layout.rows}, {kept}"
    )
    said = "every token" if not layout.shrunk else "scaled down: every token"
    tokens = _captioned(
        _token_panel(layout, picture), f"{said} ({layout.out_cols} x {layout.out_rows}), newlines"
    )
    return [base, canvas, tokens]


def _base_panel(layout: CropLayout, explanation: Explanation, picture: PillowImage) -> PillowImage:
    side = PANEL_HEIGHT * 5 // 9
    base = explanation.crops[0] if explanation.crops else picture
    panel = base.resize((side, side), PIL.Resampling.BICUBIC)
    pen = ImageDraw.Draw(panel)
    step = side / layout.side
    for k in range(1, layout.side if step >= MIN_VISIBLE_CELL else 0):
        pen.line((k * step, 0, k * step, side), fill=PAPER)
        pen.line((0, k * step, side, k * step), fill=PAPER)
    pen.rectangle((0, 0, side - 1, side - 1), outline=KEPT, width=3)
    return panel


def _canvas_panel(layout: CropLayout, picture: PillowImage) -> PillowImage:
    """Draw the canvas as it is cut: padding shaded, crops in red, what is kept in blue."""
    canvas_width, canvas_height = layout.cols * layout.crop_size, layout.rows * layout.crop_size
    scale = min(PANEL_HEIGHT / canvas_height, 2.0 * PANEL_HEIGHT / canvas_width)
    size = (max(1, round(canvas_width * scale)), max(1, round(canvas_height * scale)))
    panel = PIL.new("RGB", size, PADDING)
    resized = picture.resize(
        (max(1, round(layout.resized_width * scale)), max(1, round(layout.resized_height * scale)))
    )
    panel.paste(resized, (round(layout.left * scale), round(layout.top * scale)))
    pen = ImageDraw.Draw(panel)
    step = layout.crop_size * scale
    for col in range(1, layout.cols):
        pen.line((col * step, 0, col * step, size[1]), fill=GRID, width=2)
    for row in range(1, layout.rows):
        pen.line((0, row * step, size[0], row * step), fill=GRID, width=2)
    pen.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=GRID, width=2)
    cell = layout.crop_size * scale / layout.side
    left, top = layout.first_col * cell, layout.first_row * cell
    right, bottom = left + layout.kept_cols * cell, top + layout.kept_rows * cell
    if layout.kept_rows and layout.kept_cols:
        pen.rectangle((left, top, right - 1, bottom - 1), outline=KEPT, width=3)
    return panel


def _token_panel(layout: CropLayout, picture: PillowImage) -> PillowImage:
    """Draw one square for every token of the mosaic, and the newline column."""
    cols, rows = layout.out_cols + 1, max(layout.out_rows, 1)
    cell = max(2, min(PANEL_HEIGHT // rows, 2 * PANEL_HEIGHT // cols))
    panel = PIL.new("RGB", (cols * cell, rows * cell), PAPER)
    colours = picture.resize((max(layout.out_cols, 1), rows), PIL.Resampling.BOX)
    pen = ImageDraw.Draw(panel)
    gap = 1 if cell >= MIN_VISIBLE_CELL else 0
    for row in range(layout.out_rows):
        for col in range(layout.out_cols):
            corner = (col * cell, row * cell)
            opposite = (corner[0] + cell - 1 - gap, corner[1] + cell - 1 - gap)
            pen.rectangle((corner, opposite), fill=colours.getpixel((col, row)))
        left = layout.out_cols * cell
        pen.rectangle(
            (left, row * cell, left + cell - 1 - gap, row * cell + cell - 1 - gap), fill=KEPT
        )
    return panel


def _filmstrip(explanation: Explanation) -> PillowImage:
    """Lay the sampled frames out in rows, each with its time."""
    frames = explanation.crops[:MAX_FRAMES_DRAWN]
    cols = min(8, len(frames))
    size, label = 132, 22
    rows = math.ceil(len(frames) / cols)
    panel = PIL.new("RGB", (cols * (size + 8) - 8, rows * (size + label + 8) - 8), PAPER)
    pen = ImageDraw.Draw(panel)
    for number, frame in enumerate(frames):
        left, top = (number % cols) * (size + 8), (number // cols) * (size + label + 8)
        panel.paste(frame.resize((size, size), PIL.Resampling.BICUBIC), (left, top))
        said = f"frame {number + 1}"
        if explanation.seconds is not None:
            said = f"{explanation.seconds[number]:.2f} s"
        pen.text((left, top + size + 3), said, font=_font(14), fill=FAINT)
    return panel


def _captioned(panel: PillowImage, caption: str) -> PillowImage:
    font = _font(15)
    width = max(panel.width, math.ceil(font.getlength(caption)))
    framed = PIL.new("RGB", (width, panel.height + 30), PAPER)
    framed.paste(panel, (0, 0))
    ImageDraw.Draw(framed).text((0, panel.height + 8), caption, font=font, fill=FAINT)
    return framed


def _image_lines(layout: CropLayout) -> list[str]:
    size = f"{layout.width} x {layout.height} pixels"
    base = f"base crop {layout.crop_size} x {layout.crop_size}: {layout.side**2} tokens"
    if layout.cols == 0:
        return [f"{size}; {base}"]
    lines = [
        f"{size}, fitted as {layout.resized_width} x {layout.resized_height} into a grid of "
        f"{layout.cols} x {layout.rows} crops; {base}",
        f"after unpadding {layout.kept_cols} x {layout.kept_rows} patches remain"
        + (
            f", scaled down to {layout.out_cols} x {layout.out_rows} to keep the budget"
            if layout.shrunk
            else ", within the budget"
        )
        + f"; {layout.out_rows} newlines",
    ]
    if layout.out_rows == 0 or layout.out_cols == 0:
        lines.append("the picture is so thin that no detail is left: the model sees the base crop")
    return lines


def _video_lines(layout: VideoLayout, seconds: tuple[float, ...] | None) -> list[str]:
    pooled = f"each {layout.side} x {layout.side} patches pooled to {layout.pooled_side} x "
    when = f", from {seconds[0]:.2f} s to {seconds[-1]:.2f} s" if seconds else ""
    return [f"{layout.num_frames} frames{when}; {pooled}{layout.pooled_side} tokens"]


def _pictures(crops: Tensor) -> tuple[PillowImage, ...]:
    return tuple(PIL.fromarray(crop.permute(1, 2, 0).numpy()) for crop in crops)


def _name(media: Image | Video) -> str:
    source = media.source
    return Path(source).name if isinstance(source, str | Path) else type(media).__name__.lower()


def _flops(count: float) -> str:
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e6:.3g} MFLOP"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
