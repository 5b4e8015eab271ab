"""Procedural samples -> a contact sheet: each sample's media with its questions and answers.

+-----------+-----------+-----------+
| media     | media     | media     |
| Q. ... A. | Q. ... A. | Q. ... A. |
+-----------+-----------+-----------+
"""

import textwrap
from collections.abc import Sequence

from PIL import Image as PIL
from PIL import ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.synth.sample import Sample

CARD_WIDTH, MEDIA_HEIGHT, GAP, LINE = 420, 260, 14, 17
LETTERS_PER_LINE, MAX_LINES, MAX_FRAMES = 58, 15, 6
INK, PAPER, ANSWER = (30, 34, 40), (255, 255, 255), (20, 95, 200)


def contact_sheet(samples: Sequence[Sample], *, columns: int = 3) -> PillowImage:
    """Draws samples as cards, row by row."""
    cards = [_card(sample) for sample in samples]
    rows = -(-len(cards) // columns)
    width, height = CARD_WIDTH + GAP, cards[0].height + GAP
    sheet = PIL.new("RGB", (columns * width + GAP, rows * height + GAP), (225, 228, 232))
    for number, card in enumerate(cards):
        sheet.paste(card, (GAP + number % columns * width, GAP + number // columns * height))
    return sheet


def _card(sample: Sample) -> PillowImage:
    card = PIL.new("RGB", (CARD_WIDTH, MEDIA_HEIGHT + (MAX_LINES + 1) * LINE), PAPER)
    pen = ImageDraw.Draw(card)
    strip = _strip(_pictures(sample))
    card.paste(strip, ((CARD_WIDTH - strip.width) // 2, 0))
    font = ImageFont.load_default(size=13)
    lines = [(line, INK) for line in textwrap.wrap(sample.caption, LETTERS_PER_LINE)[:3]]
    for question in sample.questions:
        wrapped = textwrap.wrap(question.question, LETTERS_PER_LINE) or [""]
        lines += [(line, INK) for line in wrapped] + [(f"    {question.answer}", ANSWER)]
    for number, (line, colour) in enumerate(lines[:MAX_LINES]):
        pen.text((8, MEDIA_HEIGHT + 6 + number * LINE), line, font=font, fill=colour)
    return card


def _pictures(sample: Sample) -> list[PillowImage]:
    """Returns every image, and some frames of every video, in order."""
    pictures: list[PillowImage] = []
    for medium in sample.media:
        if isinstance(medium, Video):
            assert isinstance(medium.source, list)
            step = -(-len(medium.source) // MAX_FRAMES)
            pictures += medium.source[::step]
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
