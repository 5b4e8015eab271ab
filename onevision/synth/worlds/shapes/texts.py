"""Descriptions from the same worlds without pictures, and questions about them.

user       A white picture with 2 objects. A small red ring at the top. ... How many ...?
assistant  2
"""

from onevision.synth.sample import CANNOT_TELL, Question, Sample, Split, rng_for
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th text of a split: a Sample without media."""
    rng = rng_for(split, "texts", index)
    family = rng.choice((scenes, scenes, pairs, clips))
    # Texts describe pictures of their own: the index is kept apart from the pictures'.
    described = family.make(split, 1_000_000_000 + index)
    if rng.random() < 0.1:  # asked about a picture that is not there
        questions = tuple(
            Question(family="nothing", question=q.question, answer=CANNOT_TELL)
            for q in described.questions
        )
    else:
        questions = tuple(
            Question(family="text", question=f"{described.caption} {q.question}", answer=q.answer)
            for q in described.questions
        )
    return Sample(media=(), caption=described.caption, questions=questions)
