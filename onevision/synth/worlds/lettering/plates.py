"""A word of `signs` in close-up, mostly in the middle and at one size.

+---------+    What is written? cat
|   cat   |    Letters are learned here before their size matters: an encoder that meets them
+---------+    anywhere and at any size from its first picture on does not learn them.
"""

from PIL import Image as PIL
from PIL import ImageDraw

from onevision.conversation import Image
from onevision.synth.kit.scene import GROUNDS, ink_on
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Sample, Split, ask, rng_for
from onevision.synth.worlds.lettering.signs import MARGIN, READ, SIGN_WORDS

SIDE = 112
# The size of the letters as a share of the side: in the middle, and the smallest elsewhere.
SHARE, SMALLEST = 0.46, 0.25


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th plate of a split."""
    rng = rng_for(split, "plates", index)
    word = rng.choice(SIGN_WORDS)
    # From 0, in the middle and large, to 1, anywhere and small; half are below a quarter.
    freedom = rng.random() ** 2
    share = SHARE - freedom * rng.random() * (SHARE - SMALLEST)
    letters = Letters(size=round(share * SIDE), bold=True)
    room_x = (SIDE - letters.width(word)) / 2 - MARGIN
    room_y = (SIDE - letters.size) / 2 - MARGIN
    x = SIDE / 2 + freedom * rng.uniform(-room_x, room_x)
    y = SIDE / 2 + freedom * rng.uniform(-room_y, room_y)
    ground = rng.choice(list(GROUNDS))
    picture = PIL.new("RGB", (SIDE, SIDE), GROUNDS[ground])
    letters.write(ImageDraw.Draw(picture), x, y, word, ink=ink_on(ground), anchor="mm")
    return Sample(
        media=(Image(picture),),
        caption=f"The word {word}.",
        questions=(ask(rng, "read", READ, word),),
    )
