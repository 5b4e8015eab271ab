"""One letter of six on a light sheet, small or large, square or long.

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


@dataclass(frozen=True, kw_only=True)
class Capital:
    """A letter, the box that it covers, and the picture that shows it."""

    letter: str
    box: Region
    picture: PillowImage


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th sheet of a split, of any aspect and size."""
    rng = rng_for(split, "capitals", index)
    capital = random_capital(rng, aspect=rng.choice(ASPECTS), share=rng.choice(SHARES))
    return sample_of(capital, rng)


def random_capital(rng: random.Random, *, aspect: float, share: float) -> Capital:
    """Puts a letter, whose size is a share of signs.SIDE, on a sheet that lies or stands."""
    width, height = size_of(aspect, upright=rng.random() < 0.5)
    letter, letters = rng.choice(CAPITALS), Letters(size=round(share * SIDE), bold=True)
    half_width, half_height = letters.width(letter) / 2, letters.capital / 2
    x = rng.uniform(half_width + MARGIN, width - half_width - MARGIN)
    y = rng.uniform(half_height + MARGIN, height - half_height - MARGIN)
    picture = PIL.new("RGB", (width, height), rng.choice(SHEETS))
    letters.write(ImageDraw.Draw(picture), x, y, letter, ink=INK, anchor="mm")
    return Capital(
        letter=letter,
        box=Region(
            name=letter,
            left=x - half_width,
            top=y - half_height,
            right=x + half_width,
            bottom=y + half_height,
        ),
        picture=picture,
    )


def sample_of(capital: Capital, rng: random.Random) -> Sample:
    """Returns the sample that shows a letter and asks for it."""
    return Sample(
        media=(Image(capital.picture),),
        caption=f"The letter {capital.letter}.",
        questions=(ask_letter(capital, rng),),
        regions=(capital.box,),
    )


def ask_letter(capital: Capital, rng: random.Random) -> Question:
    """Asks which letter it is."""
    words = ("Which letter is it?", "Read the letter.", "Which letter is shown?")
    return ask(rng, "read", words, capital.letter)
