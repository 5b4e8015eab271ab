"""Procedural samples -> a contact sheet: each sample's media with its questions and answers.

+-----------+-----------+-----------+
| media     | media     | media     |
| Q. ... A. | Q. ... A. | Q. ... A. |
+-----------+-----------+-----------+
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image as PIL
from PIL import ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.synth.kit.fonts import font_of
from onevision.synth.kit.shapes import Colour
from onevision.synth.sample import Sample

CARD_WIDTH, MEDIA_HEIGHT, GAP, MARGIN, LINE, SIZE = 420, 260, 14, 8, 17, 13
MAX_FRAMES = 6
INK, PAPER, ANSWER = (30, 34, 40), (255, 255, 255), (20, 95, 200)
# What stays together: a word; an ideograph with the punctuation after it; a line break.
PIECES = re.compile(
    r"[^\S\n]*[\u2e80-\uffff][\u3000-\u303f\uff00-\uff0f\uff1a-\uff1f\u201d]*"
    r"|[^\S\n]*[^\s\u2e80-\uffff]+|\n"
)
# The first of the characters that Pillow's own typeface lacks, and no text of Latin letters has.
FIRST_IDEOGRAPHIC = "\u2e80"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a card's text."""

    text: str
    font: ImageFont.FreeTypeFont
    ink: Colour
    indent: int = 0


def contact_sheet(samples: Sequence[Sample], *, columns: int = 3) -> PillowImage:
    """Draws samples as cards, row by row."""
    texts = [list(_lines(sample)) for sample in samples]
    height = MEDIA_HEIGHT + (max(map(len, texts)) + 1) * LINE
    rows = -(-len(samples) // columns)
    size = (columns * (CARD_WIDTH + GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = PIL.new("RGB", size, (225, 228, 232))
    for number, (sample, lines) in enumerate(zip(samples, texts, strict=True)):
        left, top = number % columns * (CARD_WIDTH + GAP), number // columns * (height + GAP)
        sheet.paste(_card(sample, lines, height), (GAP + left, GAP + top))
    return sheet


def _card(sample: Sample, lines: Sequence[Line], height: int) -> PillowImage:
    card = PIL.new("RGB", (CARD_WIDTH, height), PAPER)
    pen = ImageDraw.Draw(card)
    card.paste(_strip(_pictures(sample)), (0, 0))
    for number, line in enumerate(lines):
        place = (MARGIN + line.indent, MEDIA_HEIGHT + 6 + number * LINE)
        pen.text(place, line.text, font=line.font, fill=line.ink)
    return card


def _lines(sample: Sample) -> Iterator[Line]:
    """Yields all that is to be read about a sample, in lines that fit a card."""
    texts = [sample.caption, *(q.question for q in sample.questions)]
    is_ideographic = max("".join(texts), default="") >= FIRST_IDEOGRAPHIC
    font = font_of("chinese" if is_ideographic else "latin", SIZE)
    yield from _wrap(sample.caption, font=font, ink=INK)
    for question in sample.questions:
        yield from _wrap(question.question, font=font, ink=INK)
        yield from _wrap(question.answer, font=font, ink=ANSWER, indent=2 * MARGIN)


def _wrap(
    text: str, *, font: ImageFont.FreeTypeFont, ink: Colour, indent: int = 0
) -> Iterator[Line]:
    """Breaks a text between words, and between any two characters of what has no spaces."""
    room, line = CARD_WIDTH - 2 * MARGIN - indent, ""
    for piece in PIECES.findall(text):
        if line and (piece == "\n" or font.getlength(line + piece) > room):
            yield Line(text=line, font=font, ink=ink, indent=indent)
            line = ""
        line = line + piece if line else piece.strip()
    yield Line(text=line, font=font, ink=ink, indent=indent)


def _pictures(sample: Sample) -> list[PillowImage]:
    """Returns every image, and up to six frames of every video, the first and the last too."""
    pictures: list[PillowImage] = []
    for medium in sample.media:
        if isinstance(medium, Video):
            assert isinstance(medium.source, list)
            last, shown = len(medium.source) - 1, min(len(medium.source), MAX_FRAMES)
            pictures += [medium.source[round(n * last / max(1, shown - 1))] for n in range(shown)]
        else:
            assert isinstance(medium.source, PillowImage)
            pictures.append(medium.source)
    return pictures


def _strip(pictures: Sequence[PillowImage]) -> PillowImage:
    """Puts pictures into a grid that fits the top of a card."""
    if not pictures:
        return PIL.new("RGB", (CARD_WIDTH, MEDIA_HEIGHT), PAPER)
    columns = len(pictures) if len(pictures) <= 3 else 3 if len(pictures) <= 6 else 4
    rows = -(-len(pictures) // columns)
    cell_width, cell_height = CARD_WIDTH // columns, MEDIA_HEIGHT // rows
    strip = PIL.new("RGB", (CARD_WIDTH, MEDIA_HEIGHT), PAPER)
    for number, picture in enumerate(pictures):
        scale = min((cell_width - 6) / picture.width, (cell_height - 6) / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        left = number % columns * cell_width + (cell_width - size[0]) // 2
        top = number // columns * cell_height + (cell_height - size[1]) // 2
        strip.paste(picture.resize(size), (left, top))
    return strip
