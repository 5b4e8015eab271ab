"""Choosing what to ask of a picture: all questions that have an answer -> the few that are asked.

No text is asked twice, and of four questions at most one is answered by yes or no.
"""

import random
from collections.abc import Iterable

from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.synth.sample import Question, Sample

MAX_QUESTIONS = 8


def choose(
    rng: random.Random, questions: Iterable[Question], *, at_most: int = MAX_QUESTIONS
) -> tuple[Question, ...]:
    """Pick questions by lot, in random order."""
    by_text: dict[str, Question] = {}
    for question in questions:
        known = by_text.setdefault(question.question, question)
        assert known.answer == question.answer, f"two answers to {question.question!r}"
    asked = [q for q in by_text.values() if q.answer not in ("yes", "no")]
    rng.shuffle(asked)
    asked = asked[:at_most]
    polar = [q for q in by_text.values() if q.answer in ("yes", "no")][: len(asked) // 4]
    if polar:
        asked[-len(polar) :] = polar
    rng.shuffle(asked)
    return tuple(asked)


def picture_sample(
    rng: random.Random,
    picture: PillowImage,
    *,
    caption: str,
    detail: str,
    asked: Iterable[Question],
    aspects: tuple[str, ...] = (),
) -> Sample:
    """Return the sample of one picture, with some of the questions it answers."""
    return Sample(
        media=(Image(picture),),
        caption=caption,
        detail=detail,
        questions=choose(rng, asked),
        aspects=aspects,
    )


def listed(names: Iterable[str], *, last: str = "and") -> str:
    """Join names as one says them: "a, b and c"."""
    *rest, final = names
    return f"{', '.join(rest)} {last} {final}" if rest else final


def plural(count: int, noun: str) -> str:
    """Put a number before its noun: "1 row", "3 rows"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
