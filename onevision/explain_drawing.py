"""An Explanation -> an RGB picture of how an image or a video is cut into crops and tokens.

+--------------------------------------------------------------+
|  title: size, grid, tokens, cost                             |
|  +------+   +-----------------------------+   +-----------+  |
|  | base |   | canvas: crop grid, padding  |   | tokens as |  |
|  +------+   | shaded, kept region framed  |   | kept      |  |
|             +-----------------------------+   +-----------+  |
+--------------------------------------------------------------+

Tokens that `keep` drops are pale, in the base crop, among the tokens and in a video's frames.
"""

import math
from collections.abc import Sequence

from PIL import Image as PIL
from PIL import ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.anyres import CropLayout, VideoLayout
from onevision.explain import Explanation
from onevision.native import NativeLayout

INK, PAPER, FAINT = (32, 36, 44), (255, 255, 255), (122, 130, 144)
GRID, KEPT, PADDING = (214, 64, 69), (24, 119, 242), (236, 238, 242)
# How opaque the cover of a dropped token is, 0 to 255.
FADED = 225
PANEL_HEIGHT, GAP, MARGIN = 360, 36, 32
MAX_FRAMES_DRAWN = 32
# Cells smaller than this (in pixels) are drawn without grid lines.
MIN_VISIBLE_CELL = 6


def draw_explanation(explanation: Explanation) -> PillowImage:
    """Draws an explanation as an RGB image: its lines of text above its panels."""
    layout = explanation.layout
    if layout.is_video:
        panels = [_filmstrip(explanation)]
    elif isinstance(layout, NativeLayout):
        panels = [_cell_panel(layout, explanation)]
    else:
        assert isinstance(layout, CropLayout), "other layouts are of videos"
        panels = _image_panels(layout, explanation)
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
    base = _add_caption(_base_panel(layout, explanation, picture), "base crop: the whole picture")
    if layout.cols == 0:
        return [base]
    kept = f"{layout.kept_cols} x {layout.kept_rows} patches kept"
    canvas = _add_caption(
        _canvas_panel(layout, picture), f"grid {layout.cols} x {layout.rows}, {kept}"
    )
    shrunk = "scaled down to " if layout.shrunk else ""
    size = f"{shrunk}{layout.out_cols} x {layout.out_rows} tokens"
    tokens = _add_caption(_token_panel(layout, picture, explanation.stays), f"{size}, and newlines")
    return [base, canvas, tokens]


def _cell_panel(layout: NativeLayout, explanation: Explanation) -> PillowImage:
    """Draws the picture at native resolution: cells in red, patches inside them in white."""
    (width, height), size = layout.size, layout.crop_size
    scale = min(2 * PANEL_HEIGHT / height, 4 * PANEL_HEIGHT / width)
    picture = explanation.picture or PIL.new("RGB", (layout.width, layout.height), PADDING)
    panel = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    pen = ImageDraw.Draw(panel)
    if size * scale / layout.side >= MIN_VISIBLE_CELL:
        patches = layout.cols * layout.side, layout.rows * layout.side
        _draw_grid(pen, panel.size, *patches, colour=PAPER)
    if size * scale >= MIN_VISIBLE_CELL:
        _draw_grid(pen, panel.size, layout.cols, layout.rows, colour=GRID)
    pen.rectangle((0, 0, panel.width - 1, panel.height - 1), outline=KEPT, width=3)
    return _add_caption(panel, f"{layout.cols} x {layout.rows} cells, a token each")


def _base_panel(layout: CropLayout, explanation: Explanation, picture: PillowImage) -> PillowImage:
    side = PANEL_HEIGHT * 5 // 9
    base = explanation.crops[0] if explanation.crops else picture
    panel = base.resize((side, side), PIL.Resampling.BICUBIC)
    stays = None if explanation.stays is None else explanation.stays[: layout.side**2]
    _fade(panel, stays, layout.side)
    pen = ImageDraw.Draw(panel)
    if side / layout.side >= MIN_VISIBLE_CELL:
        _draw_grid(pen, panel.size, layout.side, layout.side, colour=PAPER)
    pen.rectangle((0, 0, side - 1, side - 1), outline=KEPT, width=3)
    return panel


def _canvas_panel(layout: CropLayout, picture: PillowImage) -> PillowImage:
    """Draws the canvas: padding shaded, crop grid in red, kept region framed in blue."""
    canvas_width, canvas_height = layout.cols * layout.crop_size, layout.rows * layout.crop_size
    scale = min(PANEL_HEIGHT / canvas_height, 2.0 * PANEL_HEIGHT / canvas_width)
    size = (max(1, round(canvas_width * scale)), max(1, round(canvas_height * scale)))
    panel = PIL.new("RGB", size, PADDING)
    resized = picture.resize(
        (max(1, round(layout.resized_width * scale)), max(1, round(layout.resized_height * scale)))
    )
    panel.paste(resized, (round(layout.left * scale), round(layout.top * scale)))
    pen = ImageDraw.Draw(panel)
    _draw_grid(pen, size, layout.cols, layout.rows, colour=GRID, width=2)
    pen.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=GRID, width=2)
    cell = layout.crop_size * scale / layout.side
    left, top = layout.first_col * cell, layout.first_row * cell
    right, bottom = left + layout.kept_cols * cell, top + layout.kept_rows * cell
    if layout.kept_rows and layout.kept_cols:
        pen.rectangle((left, top, right - 1, bottom - 1), outline=KEPT, width=3)
    return panel


def _token_panel(
    layout: CropLayout, picture: PillowImage, stays: Sequence[bool] | None
) -> PillowImage:
    """Draws one square per token of the mosaic, pale if it is dropped, and newlines."""
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
            is_dropped = stays is not None and not stays[_place_of(layout, row, col)]
            fill = PADDING if is_dropped else colours.getpixel((col, row))
            pen.rectangle((corner, opposite), fill=fill)
        left = layout.out_cols * cell
        pen.rectangle(
            (left, row * cell, left + cell - 1 - gap, row * cell + cell - 1 - gap), fill=KEPT
        )
    return panel


def _filmstrip(explanation: Explanation) -> PillowImage:
    """Lays the sampled frames out in rows, each with its time."""
    layout, frames = explanation.layout, explanation.crops[:MAX_FRAMES_DRAWN]
    cols = min(8, len(frames))
    size, label = 132, 22
    rows = math.ceil(len(frames) / cols)
    panel = PIL.new("RGB", (cols * (size + 8) - 8, rows * (size + label + 8) - 8), PAPER)
    pen = ImageDraw.Draw(panel)
    for number, frame in enumerate(frames):
        left, top = (number % cols) * (size + 8), (number // cols) * (size + label + 8)
        drawn = frame.resize((size, size), PIL.Resampling.BICUBIC)
        if isinstance(layout, VideoLayout):
            _fade(drawn, _stays_in_frame(explanation, number), layout.pooled_side)
        panel.paste(drawn, (left, top))
        times = explanation.seconds
        caption = f"frame {number + 1}" if times is None else f"{times[number]:.2f} s"
        pen.text((left, top + size + 3), caption, font=_font(14), fill=FAINT)
    return panel


def _place_of(layout: CropLayout, row: int, col: int) -> int:
    """Returns which visual token shows a place of the mosaic."""
    side = layout.side
    if layout.merge == "flat":
        crop = 1 + row // side * layout.cols + col // side
        return crop * side**2 + row % side * side + col % side
    return side**2 + row * (layout.out_cols + int(layout.newline)) + col


def _stays_in_frame(explanation: Explanation, number: int) -> Sequence[bool] | None:
    """Returns whether each pooled patch of a frame stays, without its newlines."""
    layout, stays = explanation.layout, explanation.stays
    if stays is None:
        return None
    assert isinstance(layout, VideoLayout)
    side = layout.pooled_side
    cols = side + int(layout.newline == "grid")
    size = side * cols + int(layout.newline == "frame")
    return [stays[number * size + row * cols + col] for row in range(side) for col in range(side)]


def _fade(panel: PillowImage, stays: Sequence[bool] | None, side: int) -> None:
    """Pales the cells of `side` x `side` whose tokens are dropped."""
    if stays is None:
        return
    mask = PIL.frombytes("L", (side, side), bytes(0 if one else FADED for one in stays))
    panel.paste(PADDING, (0, 0), mask.resize(panel.size, PIL.Resampling.NEAREST))


def _draw_grid(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    cols: int,
    rows: int,
    *,
    colour: tuple[int, int, int],
    width: int = 1,
) -> None:
    """Draws the inner lines of a grid of `cols` x `rows` cells over a panel of `size`."""
    for col in range(1, cols):
        pen.line((col * size[0] / cols, 0, col * size[0] / cols, size[1]), fill=colour, width=width)
    for row in range(1, rows):
        pen.line((0, row * size[1] / rows, size[0], row * size[1] / rows), fill=colour, width=width)


def _add_caption(panel: PillowImage, caption: str) -> PillowImage:
    font = _font(15)
    width = max(panel.width, math.ceil(font.getlength(caption)))
    framed = PIL.new("RGB", (width, panel.height + 30), PAPER)
    framed.paste(panel, (0, 0))
    ImageDraw.Draw(framed).text((0, panel.height + 8), caption, font=font, fill=FAINT)
    return framed


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
