"""Parts of `capitals`, cut out anywhere around the letter, as crops show it.

+-----------------+
|      +-----+    |    Whatever rule cuts a picture into crops, a letter is seen whole or in part,
|      |   K |    |    small or large, squeezed or not. An encoder that has seen glimpses has met
|      +-----+    |    all of these, but not the bars of a padded picture.
+-----------------+
"""

import math
import random
from dataclasses import replace

from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.lettering.capitals import Capital, random_capital, sample_of
from onevision.synth.worlds.lettering.signs import ASPECTS, SHARES

# The shortest side of a part, in pixels: a crop at full size is a little more.
SHORTEST = 44
# The middle of the letter stands at least this share of a part's side from either edge.
NEAREST = 0.1


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th glimpse of a split."""
    rng = rng_for(split, "glimpses", index)
    capital = random_capital(rng, aspect=rng.choice(ASPECTS), share=rng.choice(SHARES))
    window = _window(capital, rng)
    picture, box = capital.picture.crop(window), capital.box.shift(-window[0], -window[1])
    return sample_of(replace(capital, picture=picture, box=box), rng)


def _window(capital: Capital, rng: random.Random) -> tuple[int, int, int, int]:
    """Chooses a part of a sheet: of any size, in half of the cases a square."""
    size, box = capital.picture.size, capital.box
    sides = [_length(full, rng) for full in size]
    if rng.random() < 0.5:
        side = min(max(sides) if rng.random() < 0.5 else min(sides), *size)
        sides = [side, side]
    middles = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    left, top = (
        round(min(max(middle - rng.uniform(NEAREST, 1 - NEAREST) * side, 0), full - side))
        for middle, side, full in zip(middles, sides, size, strict=True)
    )
    return left, top, left + sides[0], top + sides[1]


def _length(full: int, rng: random.Random) -> int:
    """Chooses a side between the shortest and the whole, evenly by ratio."""
    return round(math.exp(rng.uniform(math.log(min(SHORTEST, full)), math.log(full))))
