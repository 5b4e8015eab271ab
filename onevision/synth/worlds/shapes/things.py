"""Scenes of one or two things: what an encoder learns shapes and words from first.

+-----------+   "A white picture with 1 object. A large red ring at the top left."
| o         |   Where several things are listed, a reader must first find the one that is meant;
|           |   here there is nothing to find, and shape is all that is left to tell.
+-----------+
"""

from onevision.conversation import Image
from onevision.synth.kit.scene import draw_scene, random_scene
from onevision.synth.sample import Sample, Split, rng_for
from onevision.synth.worlds.shapes.scenes import aspects, describe, facts, questions, random_size


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th picture of one or two things of a split."""
    rng = rng_for(split, "things", index)
    scene = random_scene(
        rng, num_things=rng.choice((1, 1, 2)), with_writing=rng.random() < 0.3, distinct=True
    )
    width, height = random_size(rng)
    return Sample(
        media=(Image(draw_scene(scene, width=width, height=height)),),
        caption=describe(scene),
        questions=tuple(questions(scene, rng)),
        aspects=(*aspects(scene), facts(scene, rng)),
    )
