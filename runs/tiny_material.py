"""Fetched packages -> what pictures are made of: named things, photographs, typefaces, words.

    read(SOURCES)   what tiny_fetch.py brought
    toy()           drawn shapes and the synth extra's faces, so that everything runs without

A tenth of all names is *withheld*: no training picture shows such a thing. Half as many are
*unnamed*: they are shown, and the answer is that their name cannot be told.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from tiny_fetch import Pinned, read_list

from onevision.synth.kit.fonts import LEARNED, font_of
from onevision.synth.kit.shapes import COLOURS, SHAPES, draw_shape

SIZE = 224  # of a rendered drawing, in pixels
WITHHELD, UNNAMED = 26, 13  # of 256
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MAX_ALIKE = 6  # characters that a legible face may draw as another one


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture of a thing with nothing around it: an SVG, a PNG file, or a shape to draw."""

    design: str  # whose it is: "noto", "openclipart", "icons/tabler"
    svg: str = ""
    path: Path | None = None
    shape: str = ""
    is_mono: bool = False  # one ink, whose colour is free


@dataclass(frozen=True, kw_only=True)
class Named:
    """A thing with a name, its kind, and drawings of it."""

    name: str
    kind: str
    chinese: str = ""
    gloss: str = ""
    is_plural: bool = False
    is_uncounted: bool = False
    drawings: tuple[Drawing, ...] = ()

    @property
    def phrase(self) -> str:
        """The name with its article: "a banana", "grapes", "the flag of France"."""
        if self.name.startswith("flag of "):
            return f"the {self.name}"
        if self.is_plural or self.is_uncounted:
            return self.name
        return f"{'an' if self.name[0].lower() in 'aeiou' else 'a'} {self.name}"

    @property
    def is_withheld(self) -> bool:
        """Whether no training picture shows it."""
        return share_of(self.name) < WITHHELD

    @property
    def is_unnamed(self) -> bool:
        """Whether it is shown and its name is not told."""
        return WITHHELD <= share_of(self.name) < WITHHELD + UNNAMED


@dataclass(frozen=True, kw_only=True)
class Photographed:
    """A photograph and what it shows."""

    path: Path
    name: str
    group: str
    text: str = ""
    is_clothing: bool = False


@dataclass(frozen=True, kw_only=True)
class Typeface:
    """A typeface: the bytes of its file, or a face of the synth extra."""

    family: str
    data: bytes = b""
    face: str = ""

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        """Opens it at a size in pixels."""
        if self.face:
            return font_of(next(one for one in LEARNED if one == self.face), size)
        return ImageFont.truetype(io.BytesIO(self.data), size, layout_engine=ImageFont.Layout.BASIC)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that pictures are made of; what tests alone may see stands apart."""

    things: tuple[Named, ...]
    photos: tuple[Photographed, ...]
    faces: tuple[Typeface, ...]
    words: tuple[str, ...]
    # Name -> kind and gloss, for questions without a picture.
    kinds: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    # Drawings by thing of a design never learned from, photographs, typefaces, cut-outs of photos.
    test_things: tuple[Named, ...] = ()
    test_photos: tuple[Photographed, ...] = ()
    test_faces: tuple[Typeface, ...] = ()
    test_cutouts: tuple[Named, ...] = ()
    # Terms of icon sets, each by its own authors.
    icon_sets: tuple[str, ...] = ()


def share_of(name: str) -> int:
    """Returns a number from 0 to 255 that depends on the name alone."""
    return hashlib.sha256(f"tiny/{name.lower()}".encode()).digest()[0]


@lru_cache(maxsize=4096)
def render(drawing: Drawing, size: int = SIZE) -> Image.Image:
    """Renders a drawing -> RGBA, cut to what it covers."""
    if drawing.svg:
        import resvg_py

        data = resvg_py.svg_to_bytes(svg_string=drawing.svg, width=size, height=size)
        picture = Image.open(io.BytesIO(bytes(data))).convert("RGBA")
    elif drawing.path is not None:
        picture = Image.open(drawing.path).convert("RGBA")
        picture.thumbnail((size, size))
    else:
        colour, shape = drawing.shape.split()
        picture = Image.new("RGBA", (size, size), COLOURS[colour])
        alpha, middle = Image.new("L", (size, size)), size / 2
        pen = ImageDraw.Draw(alpha)
        draw_shape(pen, shape, (middle, middle), size * 0.44, fill=255, ground=0)
        picture.putalpha(alpha)
    return picture.crop(picture.getbbox() or (0, 0, 1, 1))


def is_legible(face: Typeface) -> bool:
    """Whether a face draws letters and digits, and nearly all of them differently."""
    try:
        font = face.font(24)
        masks = [font.getmask(one) for one in CHARACTERS]
    except OSError:
        return False
    if any(mask.getbbox() is None for mask in masks):
        return False
    return len({(mask.size, bytes(mask)) for mask in masks}) >= len(CHARACTERS) - MAX_ALIKE


def toy() -> Material:
    """Returns enough for a rehearsal: shapes by colour, photographs of nothing, learned faces."""
    things = tuple(
        Named(name=f"{colour} {shape}", kind="shape",
              drawings=(Drawing(design="toy", shape=f"{colour} {shape}"),))
        for colour in sorted(COLOURS) for shape in sorted(SHAPES)
    )  # fmt: skip
    faces = tuple(Typeface(family=one, face=one) for one in LEARNED)
    return Material(
        things=things,
        photos=(),
        faces=faces[:-2],
        words=("apple", "house", "river", "stone", "green", "seven"),
        kinds={"apple": ("fruit", "a round fruit"), "oak": ("plant", "a large tree")},
        test_things=things[::5],
        test_faces=faces[-2:],
    )


def read(folder: Path) -> Material:
    """Reads what tiny_fetch.py brought. Raises ValueError for a source that is not as pinned."""
    from tiny_read import read_sources

    return read_sources(folder, read_list())


def members(path: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a packed package whose names end so."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(ending):
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def read_member(path: Path, name: str) -> bytes:
    """Returns one file of a packed package."""
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"package/{name}")
        if file is None:
            raise ValueError(f"{path}: no {name} in it")
        return file.read()


def describe_sources(sources: Sequence[Pinned], material: Material) -> str:
    """Returns the table of sources for the model card, with terms and authors."""
    lines = ["| source | version | terms | by | SHA-256 or commit |", "|---|---|---|---|---|"]
    for one in sources:
        note = " (test only)" if one.use == "test" else ""
        mark = one.sha256[:16] or one.version[:16]
        lines.append(f"| {one.name}{note} | {one.version} | {one.licence} | {one.by} | `{mark}` |")
    icons = ["", "Icon sets:", "", *(f"* {one}" for one in material.icon_sets)]
    return "\n".join(lines + (icons if material.icon_sets else [])) + "\n"


def load_json(path: Path, name: str) -> object:
    """Returns a JSON file of a packed package."""
    return json.loads(read_member(path, name))
