"""Pictures like those of `scenes`, with a number or a word in a face that no training picture has.

+-----------+   "What is written in the picture?"  fish
|    fish   |   Asked, never learned from: does reading carry over to letters of another shape? The
| ■       ● |   face is the Latin of Noto Sans CJK, an optional package.
+-----------+
"""

from dataclasses import replace

from PIL import ImageDraw

from onevision.conversation import Image
from onevision.synth.kit.scene import WRITING_HEIGHT, draw_scene, ink_on, random_scene
from onevision.synth.kit.text import Letters
from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.shapes.scenes import describe, questions, random_size


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th picture of a split. Raises InputError without a font of that face."""
    rng = rng_for(split, "words", index)
    scene = random_scene(rng, num_things=rng.randint(1, 3), with_writing=True, distinct=True)
    assert scene.writing is not None
    width, height = random_size(rng)
    picture = draw_scene(replace(scene, writing=None), width=width, height=height)
    letters = Letters(size=round(WRITING_HEIGHT * min(width, height)), face="chinese")
    letters.write(
        ImageDraw.Draw(picture),
        width / 2,
        height * (scene.writing.row + 0.5) / 3,
        scene.writing.text,
        ink=ink_on(scene.ground),
        anchor="mm",
    )
    asked = tuple(
        replace(question, family=f"read_{scene.writing.kind}")
        for question in questions(scene, rng)
        if question.family == "read"
    )
    return Sample(media=(Image(picture),), caption=describe(scene), questions=asked)
