"""The packages of tiny_sources.json in one folder -> `Material`.

Emoji and flags by code point, icons and clip art whose whole name is the commonest noun of a thing
in WordNet, groceries and clothes by their published splits, typefaces that tell letters apart.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tiny_fetch import Pinned
from tiny_material import (
    Drawing,
    Material,
    Named,
    Photographed,
    Typeface,
    is_legible,
    load_json,
    members,
)
from tiny_names import DESIGNS, HELD_OUT, NAMES, UNCOUNTED, Photo, Sources, Thing

# Terms under which icons are learned from.
PERMISSIVE = {"MIT", "Apache-2.0", "ISC", "CC0-1.0", "CC-BY-4.0", "OFL-1.1", "Unlicense"}
LEFT_OUT = re.compile(
    "emoji|brand|logo|flag|noto|fxemoji|simple-icons|arcticons|skill-icons|cib|bxl|devicon|crypto|"
    "token|nonicons|file-icons|vscode|material-icon-theme|catppuccin|codicon|fa6-b|fa7-b|fab"
)
MIN_SETS, MAX_ICONS = 3, 10  # icon sets that have a name, and drawings kept of it
# Words above a noun in WordNet, the most telling first, and the kind that each says.
KINDS = {
    "edible_fruit": "fruit", "vegetable": "vegetable", "beverage": "drink", "food": "food",
    "animal": "animal", "plant": "plant", "vehicle": "vehicle", "clothing": "piece of clothing",
    "musical_instrument": "musical instrument", "structure": "structure",
    "instrumentality": "thing that people use",
}  # fmt: skip
SENSES = 4  # of a noun that must not say two kinds of thing
# Names of icons that WordNet knows as something else.
COMPUTING = {
    "android", "bot", "bug", "chips", "cookie", "cookies", "dolphin", "ethernet", "firefox", "gps",
    "kindle", "knob", "matrix", "modem", "opera", "panda", "puppet", "python", "raspberry", "ruby",
    "safari", "shell", "spider", "swift", "worm",
}  # fmt: skip
FLAG_SETS = ("circle-flags", "flag", "cif", "flagpack")
COUNTRY_FLAGS = 98  # emojibase's number of the subgroup
FLAG_LABEL = re.compile("flag: (.+)")
CLIP_ART = re.compile(r"([a-z_]+?)(?:_0?[0-9]{1,2})?[.]png")
CLIP_ART_KINDS = ("animals", "food", "transportation", "tools", "household", "plants")
# Tux Paint's folders whose pictures are drawn, or show no thing.
TUX_DRAWN = {"symbols", "cartoon", "military", "clothes"}


def read_sources(folder: Path, sources: Sequence[Pinned]) -> Material:
    """Reads everything. Raises ValueError or FileNotFoundError for what is not there."""
    return Reader(folder, sources).material()


class Reader:
    """The packages of one folder."""

    def __init__(self, folder: Path, sources: Sequence[Pinned]) -> None:
        self.folder, self.sources = folder, sources
        self.small = Sources(folder=folder)
        self.icon_sets: dict[str, str] = {}

    def material(self) -> Material:
        """Returns what training may see, and what tests alone may see."""
        things = {thing.name: thing for thing in self._clip_art()}
        for thing in self._icons():
            things[thing.name] = _join(thing, things.get(thing.name))
        emoji = list(self._emoji(set(one.name for one in DESIGNS)))
        for thing in (*emoji, *self._flags()):
            things[thing.name] = _join(thing, things.get(thing.name))
        named = tuple(thing for _, thing in sorted(things.items()))
        return Material(
            things=named,
            photos=tuple(self._photos("train")),
            faces=self._faces("train"),
            words=tuple(self._words()),
            kinds={thing.name: (thing.kind, thing.gloss) for thing in named if thing.gloss},
            test_things=tuple(self._emoji({HELD_OUT.name})),
            test_photos=tuple(self._photos("test")),
            test_faces=self._faces("test"),
            test_cutouts=tuple(
                self._tux_paint({t.name for t in named if not t.is_withheld and not t.is_unnamed})
            ),
            icon_sets=tuple(text for _, text in sorted(self.icon_sets.items())),
        )

    def _package(self, name: str) -> Path:
        (found,) = (self.folder / one.file for one in self.sources if one.name == name)
        return found

    @cached_property
    def _chinese(self) -> dict[str, str]:
        entries = load_json(self._package("emojibase-data"), "zh/data.json")
        return {one["hexcode"].removesuffix("-FE0F").lower(): one["label"] for one in entries}

    def _emoji(self, designs: set[str]) -> Iterator[Named]:
        for thing in self.small.things:
            drawings = tuple(
                Drawing(design=design, svg=body)
                for design, body in sorted(thing.bodies.items())
                if design in designs
            )
            if drawings:
                yield _named(thing, drawings, self._chinese.get(thing.code, ""))

    def _flags(self) -> Iterator[Named]:
        entries = load_json(self._package(NAMES.name), "en/data.json")
        drawn = defaultdict(list)
        for design, slug, svg in self._iconify(FLAG_SETS):
            drawn[slug.split("-")[0]].append(Drawing(design=f"icons/{design}", svg=svg))
        for entry in entries:
            found = FLAG_LABEL.fullmatch(entry["label"])
            if entry.get("subgroup") != COUNTRY_FLAGS or found is None:
                continue
            code = "".join(chr(int(one, 16) - 0x1F1A5) for one in entry["hexcode"].split("-"))
            label = self._chinese.get(entry["hexcode"].lower(), "").replace("：", ":")  # noqa: RUF001
            if drawings := tuple(drawn[code.lower()]):
                yield Named(name=f"flag of {found[1]}", kind="flag", drawings=drawings,
                            chinese=label.rpartition(":")[2].strip())  # fmt: skip

    def _icons(self) -> Iterator[Named]:
        drawn = defaultdict(list)
        for design, slug, svg in self._iconify(()):
            name = re.sub("-(fill|line|outline|bold|duotone|thin|light|solid|[0-9]+)$", "", slug)
            if (name.replace("-", "_")) in self.small.index:
                drawn[name].append(Drawing(design=f"icons/{design}", svg=svg, is_mono=True))
        for slug, drawings in sorted(drawn.items()):
            thing = self._noun(slug.replace("-", "_"), tuple(drawings[:MAX_ICONS]))
            if thing is not None and len({one.design for one in drawings}) >= MIN_SETS:
                yield thing

    def _clip_art(self) -> Iterator[Named]:
        root = self.folder / "openclipart-png" / "usr/share/openclipart/png"
        drawn = defaultdict(list)
        for kind in CLIP_ART_KINDS:
            for path in sorted((root / kind).rglob("*.png")):
                if found := CLIP_ART.fullmatch(path.name):
                    drawn[found[1]].append(Drawing(design="openclipart", path=path))
        for slug, drawings in sorted(drawn.items()):
            thing = self._noun(slug, tuple(drawings)) if slug in self.small.index else None
            if thing is not None:
                yield thing

    def _noun(self, slug: str, drawings: tuple[Drawing, ...]) -> Named | None:
        """Returns a thing whose whole name is a noun for a thing to look at, else None."""
        above = [self.small.sense(slug, n)[0] for n in range(min(SENSES, self._senses(slug)))]
        kinds = [next((KINDS[word] for word in KINDS if word in words), None) for words in above]
        kind, gloss = kinds[0], self.small.sense(slug, 0)[1]
        if slug in COMPUTING or kind is None or {*kinds} - {kind, None}:
            return None  # a mouse may be an animal, and the icon a part of a computer
        thing = Thing(code="", name=slug.replace("_", " "), kind=kind, gloss=gloss)
        return _named(thing, drawings, "")

    def _senses(self, slug: str) -> int:
        return len(self.small.index[slug])

    def _iconify(self, only: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yields (set, slug, SVG) of some sets, or of all permissive ones that draw things."""
        path = self._package("@iconify/json")
        terms = load_json(path, "collections.json")
        for name, data in members(path, ".json"):
            prefix = Path(name).stem
            if not name.startswith("package/json/") or prefix not in terms:
                continue  # the sets that were retired have no terms
            if not self._is_wanted(prefix, terms[prefix], only):
                continue
            held = json.loads(data)
            width, height = held.get("width", 16), held.get("height", 16)
            for slug, icon in held["icons"].items():
                box = f"0 0 {icon.get('width', width)} {icon.get('height', height)}"
                start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">'
                yield prefix, slug, f"{start}{icon['body']}</svg>"

    def _is_wanted(
        self, prefix: str, terms: dict[str, dict[str, str]], only: Sequence[str]
    ) -> bool:
        licence = terms["license"].get("spdx", terms["license"]["title"])
        if licence not in PERMISSIVE or (prefix not in only if only else LEFT_OUT.search(prefix)):
            return False
        self.icon_sets[prefix] = f"{terms['name']}: {licence}, {terms['author']['name']}"
        return True

    def _photos(self, split: str) -> Iterator[Photographed]:
        for one in self.small.photos(split):
            yield _photographed(one)

    def _faces(self, use: str) -> tuple[Typeface, ...]:
        faces = []
        for one in self.sources:
            if (one.what, one.use, one.kind) == ("typeface", use, "npm"):
                files = [f for f in members(self.folder / one.file, ".ttf") if "Italic" not in f[0]]
                regular = [f for f in files if "400Regular" in f[0]] or files
                faces.append(Typeface(family=one.name, data=regular[0][1]))
            elif (one.what, one.use) == ("typeface", use):
                for path in sorted((self.folder / one.name).rglob("*.ttf")):
                    faces.append(Typeface(family=path.stem, data=path.read_bytes()))
        return tuple(face for face in faces if is_legible(face))

    def _words(self) -> Iterator[str]:
        """Yields plain nouns of WordNet to write."""
        for word in sorted(self.small.index):
            if re.fullmatch("[a-z]{3,10}", word) and len(self.small.index[word]) > 1:
                yield word

    def _tux_paint(self, known: set[str]) -> Iterator[Named]:
        """Yields cut-outs of photographs whose caption ends in the name of a thing learned."""
        root = self.folder / "tuxpaint-stamps-default" / "usr/share/tuxpaint/stamps"
        for path in sorted(root.rglob("*.png")):
            caption = path.with_suffix(".txt")
            if set(path.relative_to(root).parts) & TUX_DRAWN or not caption.is_file():
                continue
            words = caption.read_text(errors="replace").splitlines()[0].lower().strip(" .!").split()
            name = next((n for i in range(len(words)) if (n := " ".join(words[i:])) in known), None)
            if name is not None:
                drawing = Drawing(design="tuxpaint", path=path)
                yield Named(name=name, kind="", drawings=(drawing,))


def _named(thing: Thing, drawings: tuple[Drawing, ...], chinese: str) -> Named:
    return Named(
        name=thing.name, kind=thing.kind, gloss=thing.gloss, chinese=chinese,
        is_plural=thing.is_plural, is_uncounted=thing.name in UNCOUNTED, drawings=drawings,
    )  # fmt: skip


def _join(thing: Named, other: Named | None) -> Named:
    """Returns a thing with the drawings of another of its name."""
    if other is None:
        return thing
    values = vars(thing) | {"drawings": (*thing.drawings, *other.drawings)}
    return Named(**values | {"gloss": thing.gloss or other.gloss})


def _photographed(photo: Photo) -> Photographed:
    return Photographed(**vars(photo))
