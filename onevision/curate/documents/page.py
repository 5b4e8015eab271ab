"""Texts -> a flat page: lines of one font on paper, and what they say."""

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image as PIL
from PIL import ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.curate.documents.sources import Language, PageSources, open_part

# Sizes in pixels.
WIDTHS, FONT_SIZES = (320, 720), (16, 34)
MIN_LINES, MAX_LINES = 3, 14
# Names of the values in a form, and where values come from.
KEYS = {
    "en": ("Name", "Date", "Number", "Total", "City", "Phone", "Order", "Room", "Code", "Price"),
    "zh": ("姓名", "日期", "编号", "总计", "城市", "电话", "订单", "房间", "代码", "价格"),
}
FORM_SHARE = 0.3
SEPARATOR = {"en": ": ", "zh": "\N{FULLWIDTH COLON}"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page and its ground truth."""

    picture: PillowImage
    language: Language
    lines: tuple[str, ...]
    # Names and values of a form, each on a line of its own.
    values: tuple[tuple[str, str], ...] = ()


def make_page(rng: random.Random, sources: PageSources) -> Page:
    """Returns a page of text or of names and values. Raises InputError, MediaError."""
    language = rng.choice(sources.languages)
    font = sources.font(rng, language, rng.randint(*FONT_SIZES))
    width = rng.randint(*WIDTHS)
    margin = round(font.size * rng.uniform(0.8, 1.8))
    values: tuple[tuple[str, str], ...] = ()
    if rng.random() < FORM_SHARE:
        values = _make_values(rng, language)
        lines = [name + SEPARATOR[language] + value for name, value in values]
        width = max(width, max(round(font.getlength(line)) for line in lines) + 2 * margin)
    else:
        lines = _wrap(rng, sources, language, font, width - 2 * margin)
    step = round(font.size * rng.uniform(1.25, 1.7))
    height = 2 * margin + step * len(lines)
    picture = _paper(rng, sources, width, height)
    draw, ink = ImageDraw.Draw(picture), tuple(rng.randint(0, 70) for _ in range(3))
    for number, line in enumerate(lines):
        draw.text((margin, margin + step * number), line, font=font, fill=ink)
    return Page(picture=picture, language=language, lines=tuple(lines), values=values)


def _make_values(rng: random.Random, language: Language) -> tuple[tuple[str, str], ...]:
    names = rng.sample(KEYS[language], rng.randint(MIN_LINES, len(KEYS[language])))
    return tuple((name, _make_value(rng)) for name in names)


def _make_value(rng: random.Random) -> str:
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 7)))
    return rng.choice(
        (digits, f"{digits[:3]}.{digits[-2:]}", f"{rng.choice('ABCDEFHKMPR')}-{digits}")
    )


def _wrap(
    rng: random.Random,
    sources: PageSources,
    language: Language,
    font: ImageFont.FreeTypeFont,
    width: int,
) -> list[str]:
    """Returns lines of running text that fit a width, from a place of the corpus at random."""
    texts = sources.texts[language]
    place, wanted = rng.randrange(len(texts)), rng.randint(MIN_LINES, MAX_LINES)
    space = "" if language == "zh" else " "
    lines, line = list[str](), ""
    while len(lines) < wanted:
        text = texts[place % len(texts)]
        place += 1
        for part in list(text) if language == "zh" else text.split():
            longer = line + space + part if line else part
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = part
            else:
                line = longer
    return [line.strip() for line in lines[:wanted]]


def _paper(rng: random.Random, sources: PageSources, width: int, height: int) -> PillowImage:
    """Returns paper: light, with a grain, or a texture of the folder made light enough to read."""
    light = np.array([rng.randint(225, 255) for _ in range(3)])
    if sources.papers:
        texture = np.asarray(open_part(sources.papers, rng, width, height)).astype(np.float32)
        pixels = light - 0.25 * (255 - texture)
    else:
        grain = np.random.default_rng(rng.getrandbits(32)).normal(0, 3, (height, width, 1))
        pixels = light + grain
    return PIL.fromarray(pixels.clip(0, 255).astype(np.uint8))
