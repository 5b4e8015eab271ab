"""Pictures in which an arrow, a circle or a box points out one thing.

+---------+   What is the thing in the box?                               red star
|[*]      |   Which thing is in the row next to the thing in the box,
|      o  |   directly below it?                                          green circle
+---------+
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import THIRDS
from onevision.synth.worlds.clips.pointed import PointedClip, ask_around, draw_frame, random_clip


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th picture of a split: the beginning of such a clip."""
    rng = rng_for(split, "pointed_stills", index)
    clip = draw_apart(split, rng, random_clip, _describe)
    things = number_of(len(clip.actors), "thing")
    mark = article(f"{clip.mark_colour} {clip.mark}")
    return picture_sample(
        rng,
        draw_frame(replace(clip, marked_frames=range(1)), 0, side=rng.randint(110, 160)),
        caption=f"A picture of {things}; {mark} points out the {clip.target.look.name}.",
        detail=_describe(clip),
        asked=_questions(clip, rng),
    )


def _describe(clip: PointedClip) -> str:
    """Says what stands where, and what is pointed out."""
    order = "From top to bottom" if clip.is_wide else "From left to right"
    things = ", ".join(f"{article(a.look.name)} at the {_third(clip, n)}"
                       for n, a in enumerate(clip.actors))  # fmt: skip
    return (
        f"{order}: {things}. The {clip.mark_colour} {clip.mark} is on number "
        f"{clip.actors.index(clip.target) + 1}."
    )


def _third(clip: PointedClip, number: int) -> str:
    """Returns in which third of its lane a thing begins."""
    return THIRDS[clip.is_wide][min(2, int(3 * clip.actors[number].start))]


def _questions(clip: PointedClip, rng: random.Random) -> Iterator[Question]:
    """Asks what the pointed thing is, and what is around it."""
    target, reference = clip.target, clip.reference
    words: tuple[str, ...] = (f"What is {reference}?", f"Name {reference}.")
    yield ask(rng, "what", words, target.look.name)
    words = (f"What shape is {reference}?", f"Which shape has {reference}?")
    yield ask(rng, "shape", words, target.look.shape)
    words = (f"What colour is {reference}?", f"Which colour has {reference}?")
    yield ask(rng, "colour", words, target.look.colour)
    one, two, three = THIRDS[clip.is_wide]
    words = (f"Is {reference} at the {one}, in the {two} or at the {three}?",)
    yield ask(rng, "third", words, _third(clip, clip.actors.index(target)))
    other = rng.choice(clip.actors)
    words = (f"Is {reference} {article(other.look.name)}?",)
    yield ask(rng, "is", words, yes_or_no(other.look == target.look))
    yield from ask_around(clip, rng, is_still=True)
