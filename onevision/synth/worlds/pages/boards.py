"""Notice boards: coloured notes, each with a few words, in the cells of a 3 x 3 grid.

+--------------------------+    What is written at the top left?  Buy milk
| [Buy milk]               |    Where is the note Call Ada?       center
|          [Call Ada]      |    What does the blue note say?      Call Ada
+--------------------------+
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Question, Sample, ask
from onevision.synth.worlds.pages.language import Language, fill
from onevision.synth.worlds.pages.sheet import DESKS, PAPERS

# Lighter tints of the named colours, for black writing.
LIGHT = {"orange": (255, 184, 107), "yellow": (255, 236, 120), "green": (156, 222, 160),
         "blue": (150, 196, 255), "pink": (255, 190, 215), "purple": (209, 180, 240),
         "red": (255, 140, 132)}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Note:
    """A few words on coloured paper, in one of nine cells."""

    text: str
    colour: str
    cell: int


def make(rng: random.Random, language: Language) -> Sample:
    """Makes a board in a language."""
    count = rng.randint(2, 6)
    texts = rng.sample(language.words.notes, count)
    colours = rng.sample(list(LIGHT), count)
    cells = sorted(rng.sample(range(9), count))
    notes = [Note(text=t, colour=c, cell=n) for t, c, n in zip(texts, colours, cells, strict=True)]
    caption, detail = _describe(notes, language, rng)
    return picture_sample(
        rng, _draw(rng, notes, language), caption=caption, detail=detail,
        asked=_questions(notes, language, rng),
    )  # fmt: skip


def _draw(rng: random.Random, notes: list[Note], language: Language) -> PillowImage:
    letters = Letters(size=rng.randint(12, 14), face=language.face)
    width = max(letters.width(note.text) for note in notes) + 14
    height = letters.line_height + rng.randint(14, 30)
    across, down = width + rng.randint(8, 16), height + rng.randint(10, 24)
    canvas = Canvas(3 * across + 16, 3 * down + 16, ground=rng.choice((*DESKS, *PAPERS)), scale=1)
    for note in notes:
        row, column = divmod(note.cell, 3)
        x = 8 + column * across + (across - width) / 2 + rng.uniform(-3, 3)
        y = 8 + row * down + (down - height) / 2 + rng.uniform(-4, 4)
        canvas.rectangle(x + 2, y + 2, x + width + 2, y + height + 2, fill=(100, 100, 100))
        canvas.rectangle(x, y, x + width, y + height, fill=LIGHT[note.colour])
        canvas.text(x + width / 2, y + height / 2, note.text, letters=letters, anchor="mm")
    return canvas.picture()


def _describe(notes: list[Note], language: Language, rng: random.Random) -> tuple[str, str]:
    phrases = language.board
    texts = language.join(phrases.note.format(text=note.text) for note in notes)
    caption = rng.choice(fill(phrases.caption, {"count": str(len(notes)), "texts": texts}))
    said = [
        phrases.detail.format(
            text=note.text, colour=language.colour(note.colour), place=language.places[note.cell]
        )
        for note in notes
    ]
    return caption, language.gap.join([caption, *said])


def _questions(notes: list[Note], language: Language, rng: random.Random) -> Iterator[Question]:
    phrases = language.board
    for note in rng.sample(notes, 2):
        values = {
            "text": note.text, "place": language.places[note.cell],
            "colour": language.colour(note.colour),
        }  # fmt: skip
        yield ask(rng, "board_at", fill(phrases.ask_at, values), note.text)
        yield ask(rng, "board_where", fill(phrases.ask_where, values), values["place"])
        yield ask(rng, "board_colour", fill(phrases.ask_colour, values), values["colour"])
        yield ask(rng, "board_text", fill(phrases.ask_of_colour, values), note.text)
    yield ask(rng, "board_count", phrases.ask_count, str(len(notes)))
