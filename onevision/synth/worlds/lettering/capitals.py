"""Capitals: one letter of six somewhere on a light sheet, small or large, square or long.

+-----------------------+
|                    K  |    Which letter is it? K
+-----------------------+
"""

import random
from dataclasses import dataclass

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Question, Region, Sample, Split, ask, rng_for
from onevision.synth.worlds.lettering.signs import ASPECTS, MARGIN, SHARES, SIDE, size_of

# Few, and unlike one another even where they are a few pixels high.
CAPITALS = ("A", "E", "K", "O", "T", "X")
INK: Colour = (25, 25, 25)
SHEETS: tuple[Colour, ...] = ((252, 252, 252), (240, 230, 200), (210, 230, 250), (225, 245, 220))
# Ways to ask for the letter.
READ = ("Which letter is it?", "Read the letter.", "Which letter is shown?")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One letter: `share` is its size over signs.SIDE."""

    letter: str
    share: float
    box: Region  # what the letter covers
    picture: PillowImage


def make(split: Split, index: int) -> Sample:
    """Make the `index`-th sheet of a split, of any aspect and size."""
    rng = rng_for(split, "capitals", index)
    return sample_of(draw(rng, aspect=rng.choice(ASPECTS), share=rng.choice(SHARES)), rng)


def draw(rng: random.Random, *, aspect: float, share: float) -> Sheet:
    """Draw a letter of a size on a sheet of an aspect, lying or standing."""
    width, height = size_of(aspect, standing=rng.random() < 0.5)
    letter, letters = rng.choice(CAPITALS), Letters(size=round(share * SIDE), bold=True)
    half_width, half_height = letters.width(letter) / 2, letters.capital / 2
    x = rng.uniform(half_width + MARGIN, width - half_width - MARGIN)
    y = rng.uniform(half_height + MARGIN, height - half_height - MARGIN)
    picture = PIL.new("RGB", (width, height), rng.choice(SHEETS))
    letters.write(ImageDraw.Draw(picture), x, y, letter, ink=INK, anchor="mm")
    return Sheet(
        letter=letter,
        share=share,
        box=Region(
            name=letter,
            left=x - half_width,
            top=y - half_height,
            right=x + half_width,
            bottom=y + half_height,
        ),
        picture=picture,
    )


def sample_of(sheet: Sheet, rng: random.Random) -> Sample:
    """Return what there is to say and to ask about a sheet."""
    return Sample(
        media=(Image(sheet.picture),),
        caption=f"The letter {sheet.letter}.",
        questions=(question(sheet, rng),),
        regions=(sheet.box,),
    )


def question(sheet: Sheet, rng: random.Random) -> Question:
    """Ask which letter it is."""
    return ask(rng, "read", READ, sheet.letter)
