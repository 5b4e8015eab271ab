"""Writing on pictures: text, a face and a size -> inked pixels and their width.

Every glyph is rendered once per face, size and weight, and then stamped:

    Letters(size=14).write(pen, 20, 30, "Milk 2.50", ink=(0, 0, 0), anchor="lm")
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw
from PIL.Image import Image as PillowImage

from onevision.synth.kit.fonts import Face, font_of
from onevision.synth.kit.shapes import Colour
from onevision.synth.sample import Region

# Across: left, middle, right. Down: top of the line, middle of a capital, baseline.
Anchor = Literal["lt", "lm", "ls", "mt", "mm", "ms", "rt", "rm", "rs"]

BOLD_STROKE = 0.35
# Around the ink of a glyph's mask, in pixels.
MARGIN = 2
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
        x, baseline = self._begin(x, y, text, anchor)
        for character in text:
            glyph = _glyph(character, self.face, self.size, self.bold)
            if glyph.mask is not None:
                pen.bitmap((round(x) + glyph.left, baseline + glyph.top), glyph.mask, fill=ink)
            x += glyph.advance

    def regions(self, x: float, y: float, text: str, *, anchor: Anchor = "lt") -> list[Region]:
        """Return what each character covers that `write` puts there, as high as its ink."""
        x, baseline = self._begin(x, y, text, anchor)
        found = []
        for character in text:
            glyph = _glyph(character, self.face, self.size, self.bold)
            if glyph.mask is not None:
                top, height = baseline + glyph.top + MARGIN, glyph.mask.height - 2 * MARGIN
                found.append(
                    Region(
                        name=character,
                        left=x,
                        top=top,
                        right=x + glyph.advance,
                        bottom=top + height,
                    )
                )
            x += glyph.advance
        return found

    def _begin(self, x: float, y: float, text: str, anchor: Anchor) -> tuple[float, int]:
        """Return where the pen is set down for a text: its left edge and its baseline."""
        ascent, capital = _heights(self.face, self.size)
        across, down = anchor[0], anchor[1]
        if across != "l":
            x -= self.width(text) * (0.5 if across == "m" else 1)
        return x, round(y + {"t": ascent, "m": capital / 2, "s": 0}[down])


def upright(text: str, letters: Letters, *, ink: Colour, ground: Colour) -> PillowImage:
    """Return a picture of a text that runs from bottom to top."""
    strip = Image.new("RGB", (letters.width(text) + 2, letters.line_height), ground)
    letters.write(ImageDraw.Draw(strip), 1, 0, text, ink=ink)
    return strip.transpose(Image.Transpose.ROTATE_90)


@dataclass(frozen=True, kw_only=True)
class _Glyph:
    """One rendered character: its mask and where it lies relative to pen and baseline."""

    mask: PillowImage | None
    left: int
    top: int
    advance: float


@lru_cache(maxsize=60_000)
def _glyph(character: str, face: Face, size: int, bold: bool) -> _Glyph:
    font = font_of(face, size)
    stroke = BOLD_STROKE if bold else 0
    left, top, right, bottom = (round(v) for v in font.getbbox(character, anchor="ls"))
    advance = font.getlength(character) + 2 * stroke
    if character == " ":
        advance = max(advance, MIN_SPACE * size)
    if right <= left or bottom <= top:
        return _Glyph(mask=None, left=0, top=0, advance=advance)
    mask = Image.new("L", (right - left + 2 * MARGIN, bottom - top + 2 * MARGIN))
    ImageDraw.Draw(mask).text(
        (MARGIN - left + stroke, MARGIN - top), character, fill=255, font=font, anchor="ls",
        stroke_width=stroke,
    )  # fmt: skip
    return _Glyph(mask=mask, left=left - MARGIN, top=top - MARGIN, advance=advance)


@lru_cache(maxsize=256)
def _heights(face: Face, size: int) -> tuple[int, int]:
    """Return how far the top of a line lies above its baseline, and the height of a capital."""
    font = font_of(face, size)
    capital = round(-font.getbbox("H", anchor="ls")[1])
    # Fonts with Chinese claim far more room above the line than their characters take.
    return (round(0.94 * size) if face == "chinese" else font.getmetrics()[0]), capital
