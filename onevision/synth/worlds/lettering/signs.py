"""One short word somewhere in a picture, small or large, on a square or a long ground.

+-----------------------+    What is written? cat
|                 cat   |    Where is the word? top right
+-----------------------+
"""

from PIL import Image as PIL
from PIL import ImageDraw

from onevision.conversation import Image
from onevision.synth.kit.scene import GROUNDS, ink_on, place_name
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Sample, Split, ask, rng_for

# All of three letters, so that the length of a word does not give it away; few, so that they can be
# learned in thousands of samples.
SIGN_WORDS = ("cat", "dog", "sun", "key", "fox", "bus")
# The side of the square that has as many pixels as a picture of any aspect.
SIDE = 168
# Width over height; a picture is as likely to stand as to lie.
ASPECTS = (1.0, 2.0, 4.0)
# The size of the letters, as shares of SIDE.
SHARES = (1 / 16, 1 / 10, 1 / 6, 1 / 4)
MARGIN = 2
READ = ("What is written?", "Read the word.", "Which word is shown?")


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th sign of a split, of any aspect and size."""
    rng = rng_for(split, "signs", index)
    aspect, share = rng.choice(ASPECTS), rng.choice(SHARES)
    width, height = size_of(aspect, upright=rng.random() < 0.5)
    word, letters = rng.choice(SIGN_WORDS), Letters(size=round(share * SIDE), bold=True)
    half_width, half_height = letters.width(word) / 2 + MARGIN, letters.size / 2 + MARGIN
    x = rng.uniform(half_width, width - half_width)
    y = rng.uniform(half_height, height - half_height)
    ground = rng.choice(list(GROUNDS))
    picture = PIL.new("RGB", (width, height), GROUNDS[ground])
    letters.write(ImageDraw.Draw(picture), x, y, word, ink=ink_on(ground), anchor="mm")
    place = place_name(int(3 * x / width), int(3 * y / height))
    return Sample(
        media=(Image(picture),),
        caption=f"The word {word} at the {place}.",
        questions=(
            ask(rng, "read", READ, word),
            ask(rng, "locate", ("Where is the word?", "In which place is the word?"), place),
        ),
        aspects=(f"Written: {word}.",),
    )


def size_of(aspect: float, *, upright: bool) -> tuple[int, int]:
    """Returns width and height of a picture whose longer side is `aspect` times its shorter one."""
    long, short = round(SIDE * aspect**0.5), round(SIDE / aspect**0.5)
    return (short, long) if upright else (long, short)
