"""Signs: one short word somewhere in a picture, small or large, on a square or a long ground.

+-----------------------+    What is written? cat
|                 cat   |    Where is the word? top right
+-----------------------+
"""

import random
from dataclasses import dataclass

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.synth.kit.scene import GROUNDS, ink_on, place_name
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

# All of three letters, so that the length of a word does not give it away; few, so that they can be
# learned in thousands of samples.
SIGN_WORDS = ("cat", "dog", "sun", "key", "fox", "bus")
# The side of the square that has as many pixels as a picture of any aspect.
SIDE = 168
# Width over height; a picture is as likely to stand as to lie.
ASPECTS = (1.0, 2.0, 4.0)
# The height of the letters, as shares of SIDE.
SHARES = (1 / 16, 1 / 10, 1 / 6, 1 / 4)
MARGIN = 2
# Ways to ask for the word.
READ = ("What is written?", "Read the word.", "Which word is shown?")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One word: `share` is the size of its letters over SIDE, `place` the ninth it stands in."""

    word: str
    width: int
    height: int
    share: float
    place: str
    picture: PillowImage


def make(split: Split, index: int) -> Sample:
    """Make the `index`-th sign of a split, of any aspect and size."""
    rng = rng_for(split, "signs", index)
    return sample_of(draw(rng, aspect=rng.choice(ASPECTS), share=rng.choice(SHARES)), rng)


def draw(rng: random.Random, *, aspect: float, share: float) -> Sign:
    """Draw a word of a size on a ground of an aspect, lying or standing."""
    width, height = size_of(aspect, standing=rng.random() < 0.5)
    word, letters = rng.choice(SIGN_WORDS), Letters(size=round(share * SIDE), bold=True)
    half_width, half_height = letters.width(word) / 2 + MARGIN, letters.size / 2 + MARGIN
    x = rng.uniform(half_width, width - half_width)
    y = rng.uniform(half_height, height - half_height)
    ground = rng.choice(list(GROUNDS))
    picture = PIL.new("RGB", (width, height), GROUNDS[ground])
    letters.write(ImageDraw.Draw(picture), x, y, word, ink=ink_on(ground), anchor="mm")
    return Sign(
        word=word,
        width=width,
        height=height,
        share=share,
        place=place_name(int(3 * x / width), int(3 * y / height)),
        picture=picture,
    )


def sample_of(sign: Sign, rng: random.Random) -> Sample:
    """Return what there is to say and to ask about a sign."""
    return Sample(
        media=(Image(sign.picture),),
        caption=f"The word {sign.word} at the {sign.place}.",
        questions=questions(sign, rng),
        aspects=(f"Written: {sign.word}.",),
    )


def questions(sign: Sign, rng: random.Random) -> tuple[Question, Question]:
    """Ask what is written, and where."""
    return (
        ask(rng, "read", READ, sign.word),
        ask(rng, "locate", ("Where is the word?", "In which place is the word?"), sign.place),
    )


def size_of(aspect: float, *, standing: bool) -> tuple[int, int]:
    """Return width and height of a picture of an aspect."""
    long, short = round(SIDE * aspect**0.5), round(SIDE / aspect**0.5)
    return (short, long) if standing else (long, short)
