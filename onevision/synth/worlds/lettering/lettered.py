"""Scenes with writing in one of a dozen typefaces.

+-----------+   "What is written in the picture?"  fish
|    fish   |   A word, a number or random letters, larger or smaller than those of `scenes`. What
| ■       ● |   covers the picture is known: each letter, and each thing by colour and shape.
+-----------+
"""

import random
from dataclasses import replace

from PIL import ImageDraw

from onevision.conversation import Image
from onevision.synth.kit.fonts import LEARNED
from onevision.synth.kit.scene import (
    WRITING_HEIGHT,
    Scene,
    Thing,
    draw_scene,
    ink_on,
    random_scene,
)
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Region, Sample, Split, rng_for
from onevision.synth.worlds.shapes.scenes import aspects, describe, facts, questions, random_size

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
# What can cover a picture: letters, and things by name.
COVERS = (*CHARACTERS, *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES))
# Share of the pictures with random letters: there, a letter's neighbours do not give it away.
RANDOM_TEXTS = 0.3
# Writing is this much smaller or larger than in `scenes`.
SMALLEST, LARGEST = 0.7, 1.2
MARGIN = 2


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th picture of a split. Raises InputError if a typeface is missing."""
    rng = rng_for(split, "lettered", index)
    scene = random_scene(
        rng, num_things=rng.randint(1, 4), with_writing=True, distinct=rng.random() < 0.5
    )
    assert scene.writing is not None
    if rng.random() < RANDOM_TEXTS:
        text = "".join(rng.choices(CHARACTERS, k=rng.randint(1, 4)))
        scene = replace(scene, writing=replace(scene.writing, text=text))
    width, height = random_size(rng)
    picture = draw_scene(replace(scene, writing=None), width=width, height=height)
    written = _write(ImageDraw.Draw(picture), scene, width, height, rng)
    middle = (written[0].left + written[-1].right) / 2
    return Sample(
        media=(Image(picture),),
        caption=describe(scene, writing_col=min(2, int(3 * middle / width))),
        questions=tuple(questions(scene, rng)),
        aspects=(*aspects(scene), facts(scene, rng)),
        regions=(*(_region(thing, width, height) for thing in scene.things), *written),
    )


def _write(
    pen: ImageDraw.ImageDraw, scene: Scene, width: int, height: int, rng: random.Random
) -> list[Region]:
    """Writes a scene's text somewhere in its row, and returns what each letter covers."""
    assert scene.writing is not None
    text, row = scene.writing.text, scene.writing.row
    share = WRITING_HEIGHT * rng.uniform(SMALLEST, LARGEST)
    face, bold = rng.choice(LEARNED), rng.random() < 0.2
    letters = Letters(size=round(share * min(width, height)), face=face, bold=bold)
    room = max(0, (width - letters.width(text)) / 2 - MARGIN)
    x = width / 2 + rng.uniform(-room, room)
    y = height * (row + rng.uniform(0.42, 0.58)) / 3
    letters.write(pen, x, y, text, ink=ink_on(scene.ground), anchor="mm")
    return letters.regions(x, y, text, anchor="mm")


def _region(thing: Thing, width: int, height: int) -> Region:
    reach = thing.radius * min(width, height)
    x, y = thing.x * width, thing.y * height
    return Region(name=thing.name, left=x - reach, top=y - reach, right=x + reach, bottom=y + reach)
