"""Folders and files -> what pages are made of: texts by language, fonts, papers, backgrounds."""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from PIL import ImageFont
from PIL.Image import Image as PillowImage

from onevision.curate.rules import HAN
from onevision.data.containers import PICTURES
from onevision.errors import InputError, MediaError
from onevision.inputs.media import open_image
from onevision.synth.families import family_named
from onevision.synth.kit.fonts import LEARNED, font_of

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
FAMILIES: Mapping[Language, str] = {"en": "documents", "zh": "chinese_documents"}
FONT_SUFFIXES = (".ttf", ".otf", ".ttc")
# Pages of the procedural worlds whose text stands in for a corpus.
NUM_WORLD_PAGES = 200
# Sentences end with a mark; a period within a number has no space after it.
SENTENCE = re.compile(r"(?<=。)|(?<=\.)\s+")
# A line of a corpus is taken for Chinese if it has so many Chinese characters.
MIN_HAN = 2


@dataclass(frozen=True, kw_only=True)
class PageSources:
    """What pages are made of."""

    texts: Mapping[Language, Sequence[str]]
    fonts: Sequence[Path] = ()
    papers: Sequence[Path] = ()
    backgrounds: Sequence[Path] = ()

    @property
    def languages(self) -> tuple[Language, ...]:
        """The languages of the pages."""
        return tuple(self.texts)

    @property
    def fingerprint(self) -> str:
        """A hash of the texts, and of the names and sizes of the files."""
        files = [[(path.name, path.stat().st_size) for path in paths]
                 for paths in (self.fonts, self.papers, self.backgrounds)]  # fmt: skip
        content = json.dumps([self.texts, files], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def font(self, rng: random.Random, language: Language, size: int) -> ImageFont.FreeTypeFont:
        """Returns a font of a language. Raises InputError if its package is missing."""
        if language == "zh":
            return font_of("chinese", size)
        if self.fonts:
            return _open_font(rng.choice(self.fonts), size)
        return font_of(rng.choice(LEARNED), size)


def read_sources(
    *,
    languages: Sequence[Language],
    corpus: Path | None,
    fonts: Path | None,
    papers: Path | None,
    backgrounds: Path | None,
) -> PageSources:
    """Reads a corpus and lists the files of folders.

    Without a corpus, texts are those of the procedural pages. Raises InputError for a folder
    without such files, and for a language that the corpus lacks.
    """
    lines = _read_corpus(corpus) if corpus is not None else None
    files = {
        "fonts": _list(fonts, FONT_SUFFIXES, "fonts"),
        "papers": _list(papers, PICTURES, "pictures"),
        "backgrounds": _list(backgrounds, PICTURES, "pictures"),
    }
    texts: dict[Language, list[str]] = {}
    for language in languages:
        texts[language] = (
            _world_texts(language)
            if lines is None
            else [line for line in lines if _is_of(line, language)]
        )
        if not texts[language]:
            raise InputError(f"{corpus}: no line of it is {language}; leave that language out")
    return PageSources(texts=texts, **files)


def parse_languages(text: str) -> tuple[Language, ...]:
    """Parses "en,zh". Raises InputError."""
    found: list[Language] = []
    for name in text.split(","):
        match = next((known for known in LANGUAGES if known == name.strip()), None)
        if match is None or match in found:
            raise InputError(f"--languages is {text!r}; expected some of {','.join(LANGUAGES)}")
        found.append(match)
    return tuple(found)


def open_part(paths: Sequence[Path], rng: random.Random, width: int, height: int) -> PillowImage:
    """Returns a part of a picture at random, scaled to a size. Raises MediaError."""
    picture = open_image(rng.choice(paths))
    scale = max(width / picture.width, height / picture.height) * rng.uniform(1, 1.6)
    size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    picture = picture.resize(size)
    left, top = rng.randint(0, size[0] - width), rng.randint(0, size[1] - height)
    return picture.crop((left, top, left + width, top + height))


def _read_corpus(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: the corpus cannot be read ({error.strerror}); check it"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the corpus is not UTF-8 ({error}); expected text") from error
    return [" ".join(line.split()) for line in lines if line.strip()]


def _is_of(line: str, language: Language) -> bool:
    return (len(HAN.findall(line)) >= MIN_HAN) == (language == "zh")


def _world_texts(language: Language) -> list[str]:
    make = family_named(FAMILIES[language])
    pages = [make("train", number).description for number in range(NUM_WORLD_PAGES)]
    return [part for page in pages for part in SENTENCE.split(page) if len(part) > 4]


def _list(folder: Path | None, suffixes: Sequence[str], what: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not found:
        raise InputError(f"{folder}: no {what} in it; expected files such as {' '.join(suffixes)}")
    if what == "pictures":
        for path in found[:1]:
            try:
                open_image(path)
            except MediaError as error:
                raise InputError(str(error)) from error
    return found


@lru_cache(maxsize=512)
def _open_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise InputError(f"{path}: not a font ({error}); remove it from --fonts") from error
