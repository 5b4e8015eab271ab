"""Writing on pictures: text, a face and a size -> inked pixels and their width.

Every glyph is rendered once per face, size and weight, and then stamped; Latin comes from Pillow's
own font, Chinese from an optional package:

    Letters(size=14).write(pen, 20, 30, "Milk 2.50", ink=(0, 0, 0), anchor="lm")
"""

import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.errors import InputError
from onevision.synth.world import Colour

Face = Literal["latin", "chinese"]
# Across: left, middle, right. Down: top of the line, middle of a capital, baseline.
Anchor = Literal["lt", "lm", "ls", "mt", "mm", "ms", "rt", "rm", "rs"]

CJK_FONT_VARIABLE = "ONEVISION_CJK_FONT"
CJK_FONT_PACKAGE = "noto-cjk-sans-otc"
CJK_FONT_MODULE, CJK_FONT_NAME = "noto_cjk_sans_otc", "NotoSansCJK-Regular.ttc"
MAX_FACES_IN_FILE = 10
BOLD_STROKE = 0.35
# Narrower spaces vanish in small letters; as a share of the size.
MIN_SPACE = 0.32


@dataclass(frozen=True, kw_only=True)
class Letters:
    """A face at a size in pixels, normal or bold."""

    size: int
    bold: bool = False
    face: Face = "latin"

    @property
    def line_height(self) -> int:
        """The distance between two baselines."""
        return round(1.3 * self.size)

    @property
    def capital(self) -> int:
        """The height of a capital, in pixels."""
        return _heights(self.face, self.size)[1]

    def width(self, text: str) -> int:
        """Return how many pixels wide a text is."""
        return round(sum(_glyph(c, self.face, self.size, self.bold).advance for c in text))

    def write(
        self,
        pen: ImageDraw.ImageDraw,
        x: float,
        y: float,
        text: str,
        *,
        ink: Colour,
        anchor: Anchor = "lt",
    ) -> None:
        """Write one line of text at its anchor point."""
        ascent, capital = _heights(self.face, self.size)
        across, down = anchor[0], anchor[1]
        if across != "l":
            x -= self.width(text) * (0.5 if across == "m" else 1)
        baseline = round(y + {"t": ascent, "m": capital / 2, "s": 0}[down])
        for character in text:
            glyph = _glyph(character, self.face, self.size, self.bold)
            if glyph.mask is not None:
                pen.bitmap((round(x) + glyph.left, baseline + glyph.top), glyph.mask, fill=ink)
            x += glyph.advance


def upright(text: str, letters: Letters, *, ink: Colour, ground: Colour) -> PillowImage:
    """Return a picture of a text that runs from bottom to top."""
    strip = Image.new("RGB", (letters.width(text) + 2, letters.line_height), ground)
    letters.write(ImageDraw.Draw(strip), 1, 0, text, ink=ink)
    return strip.transpose(Image.Transpose.ROTATE_90)


def chinese_font_file() -> Path | None:
    """Find a font with Chinese: the file the environment names, else the package's; else None."""
    named = os.environ.get(CJK_FONT_VARIABLE)
    if named:
        return Path(named)
    package = importlib.util.find_spec(CJK_FONT_MODULE)
    if package is None or package.origin is None:
        return None
    return Path(package.origin).with_name(CJK_FONT_NAME)


@dataclass(frozen=True, kw_only=True)
class _Glyph:
    """One rendered character: its mask and where it lies relative to pen and baseline."""

    mask: PillowImage | None
    left: int
    top: int
    advance: float


@lru_cache(maxsize=60_000)
def _glyph(character: str, face: Face, size: int, bold: bool) -> _Glyph:
    font = _font(face, size)
    stroke = BOLD_STROKE if bold else 0
    left, top, right, bottom = (round(v) for v in font.getbbox(character, anchor="ls"))
    advance = font.getlength(character) + 2 * stroke
    if character == " ":
        advance = max(advance, MIN_SPACE * size)
    if right <= left or bottom <= top:
        return _Glyph(mask=None, left=0, top=0, advance=advance)
    mask = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(mask).text(
        (2 - left + stroke, 2 - top), character, fill=255, font=font, anchor="ls",
        stroke_width=stroke,
    )  # fmt: skip
    return _Glyph(mask=mask, left=left - 2, top=top - 2, advance=advance)


@lru_cache(maxsize=256)
def _heights(face: Face, size: int) -> tuple[int, int]:
    """Return how far the top of a line lies above its baseline, and the height of a capital."""
    font = _font(face, size)
    capital = round(-font.getbbox("H", anchor="ls")[1])
    # Fonts with Chinese claim far more room above the line than their characters take.
    return (font.getmetrics()[0] if face == "latin" else round(0.94 * size)), capital


@lru_cache(maxsize=256)
def _font(face: Face, size: int) -> ImageFont.FreeTypeFont:
    if face == "chinese":
        path = chinese_font_file()
        if path is None or not path.is_file():
            raise InputError(
                f"found no font with Chinese ({path or 'no package'}): install one with "
                f"`pip install {CJK_FONT_PACKAGE}` or name a font file in {CJK_FONT_VARIABLE}"
            )
        return _simplified(path, size)
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _simplified(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """Open a font file, and of a collection the face for simplified Chinese."""
    layout = ImageFont.Layout.BASIC
    font = ImageFont.truetype(path, size, layout_engine=layout)
    if path.suffix.lower() != ".ttc":
        return font
    for index in range(MAX_FACES_IN_FILE):
        try:
            other = ImageFont.truetype(path, size, index=index, layout_engine=layout)
        except OSError:  # past the last face: the file has none of that name
            break
        if (other.getname()[0] or "").endswith(" SC"):
            return other
    return font
