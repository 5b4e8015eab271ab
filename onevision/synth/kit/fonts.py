"""Typefaces: a name and a size in pixels -> a font.

    font_of("serif", 20)      the regular cut of Caladea, from the package that brings it

Pillow's own font is always there, others come in packages of the extra `synth`. The Latin letters
of Noto Sans CJK are held out: questions are asked about them, but nothing learns from them.
"""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import ImageFont

from onevision.errors import InputError

Face = Literal[
    "latin", "chinese",
    "grotesque", "grotesque light", "grotesque bold", "grotesque italic",
    "geometric", "geometric light", "geometric bold",
    "serif", "serif bold", "serif italic", "serif bold italic",
]  # fmt: skip

CJK_FONT_VARIABLE = "ONEVISION_CJK_FONT"
MAX_FACES_IN_FILE = 10


@dataclass(frozen=True)
class _Package:
    """Where a face comes from: a package to install, its module, and the file in it."""

    name: str
    module: str
    file: str


_NOTO = _Package("noto-cjk-sans-otc", "noto_cjk_sans_otc", "NotoSansCJK-Regular.ttc")


def _hanken(cut: str) -> _Package:
    return _Package("font-hanken-grotesk", "font_hanken_grotesk", f"files/HankenGrotesk-{cut}.otf")


def _manrope(cut: str) -> _Package:
    return _Package("font-manrope", "font_manrope", f"files/Manrope-{cut}.ttf")


def _caladea(cut: str) -> _Package:
    return _Package("font-caladea", "font_caladea", f"files/Caladea-{cut}.ttf")


_PACKAGES: Mapping[Face, _Package] = {
    "grotesque": _hanken("Regular"),
    "grotesque light": _hanken("Light"),
    "grotesque bold": _hanken("Bold"),
    "grotesque italic": _hanken("Italic"),
    "geometric": _manrope("Regular"),
    "geometric light": _manrope("Light"),
    "geometric bold": _manrope("Bold"),
    "serif": _caladea("Regular"),
    "serif bold": _caladea("Bold"),
    "serif italic": _caladea("Italic"),
    "serif bold italic": _caladea("BoldItalic"),
}
# Faces to learn from: Pillow's own, and every cut of the three packages.
LEARNED: tuple[Face, ...] = ("latin", *_PACKAGES)


@lru_cache(maxsize=1024)
def font_of(face: Face, size: int) -> ImageFont.FreeTypeFont:
    """Opens a face at a size in pixels. Raises InputError if its package is missing."""
    if face == "chinese":
        return _open_simplified(_find_chinese_font(), size)
    if face == "latin":
        font = ImageFont.load_default(size=size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    package = _PACKAGES[face]
    path = _file_of(package)
    if path is None or not path.is_file():
        raise InputError(
            f"found no font for the face {face!r} ({path or 'no package'}): "
            "pip install 'onevision[synth]'"
        )
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def chinese_font_file() -> Path | None:
    """Returns the font file named in the environment, else the package's, else None."""
    named = os.environ.get(CJK_FONT_VARIABLE)
    return Path(named) if named else _file_of(_NOTO)


def _find_chinese_font() -> Path:
    path = chinese_font_file()
    if path is None or not path.is_file():
        raise InputError(
            f"found no font with Chinese ({path or 'no package'}): "
            f"pip install 'onevision[synth]', or name a font file in {CJK_FONT_VARIABLE}"
        )
    return path


def _file_of(package: _Package) -> Path | None:
    found = importlib.util.find_spec(package.module)
    return (
        None if found is None or found.origin is None else Path(found.origin).parent / package.file
    )


def _open_simplified(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """Opens a font file; of a collection, the face for simplified Chinese."""
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
