"""Text on pictures: a typeface, a size and a text -> inked pixels, their width and their regions.

    Letters(size=14).write(pen, 20, 30, "Milk 2.50", ink=(0, 0, 0), anchor="lm")

Each glyph is rendered once per face, size and weight, and then stamped.
"""

from collections.abc import Iterator
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
# Pixels around the ink of a glyph's mask.
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
        """The distance between two baselines, in pixels."""
        return round(1.3 * self.size)

    @property
    def capital(self) -> int:
        """The height of a capital, in pixels."""
        return _heights(self.face, self.size)[1]

    def width(self, text: str) -> int:
        """Returns how many pixels wide a text is."""
        return round(sum(_glyph(character, self).advance for character in text))

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
        """Writes one line of text at its anchor point."""
        for left, baseline, _, glyph in self._set(x, y, text, anchor):
            if glyph.mask is not None:
                corner = (round(left) + glyph.left, baseline + glyph.top)
                pen.bitmap(corner, glyph.mask, fill=ink)

    def regions(self, x: float, y: float, text: str, *, anchor: Anchor = "lt") -> list[Region]:
        """Returns what each character covers that `write` puts there, as high as its ink."""
        return [
            Region(
                name=character,
                left=left,
                top=baseline + glyph.top + MARGIN,
                right=left + glyph.advance,
                bottom=baseline + glyph.top + glyph.mask.height - MARGIN,
            )
            for left, baseline, character, glyph in self._set(x, y, text, anchor)
            if glyph.mask is not None
        ]

    def _set(
        self, x: float, y: float, text: str, anchor: Anchor
    ) -> Iterator[tuple[float, int, str, "_Glyph"]]:
        """Yields each character's left edge, baseline, name and glyph."""
        ascent, capital = _heights(self.face, self.size)
        across, down = anchor[0], anchor[1]
        if across != "l":
            x -= self.width(text) * (0.5 if across == "m" else 1)
        baseline = round(y + {"t": ascent, "m": capital / 2, "s": 0}[down])
        for character in text:
            glyph = _glyph(character, self)
            yield x, baseline, character, glyph
            x += glyph.advance


@dataclass(frozen=True, kw_only=True)
class _Glyph:
    """One rendered character: its mask and where it lies relative to pen and baseline."""

    mask: PillowImage | None
    left: int
    top: int
    advance: float


@lru_cache(maxsize=60_000)
def _glyph(character: str, letters: Letters) -> _Glyph:
    font = font_of(letters.face, letters.size)
    stroke = BOLD_STROKE if letters.bold else 0
    left, top, right, bottom = (round(v) for v in font.getbbox(character, anchor="ls"))
    advance = font.getlength(character) + 2 * stroke
    if character == " ":
        advance = max(advance, MIN_SPACE * letters.size)
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
    """Returns how far the top of a line lies above its baseline, and the height of a capital."""
    font = font_of(face, size)
    capital = round(-font.getbbox("H", anchor="ls")[1])
    # Fonts with Chinese claim far more room above the line than their characters take.
    return (round(0.94 * size) if face == "chinese" else font.getmetrics()[0]), capital
