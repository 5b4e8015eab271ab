"""Questions that a sample could answer -> the few that it asks, most of them open.

candidates: colour? colour? yes/no? yes/no? count? where? (none) ...
                    |  no text twice, at most a share of yes and no
                    v
the sample: where? colour? yes/no? count?
"""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from PIL.Image import Image as PillowImage

from onevision.conversation import Image
from onevision.synth.sample import Question, Sample

MAX_QUESTIONS = 8
CLOSED_ANSWERS = frozenset({"yes", "no", "true", "false"})
Content = TypeVar("Content")
# Asks something about the content of a sample, if that has an answer.
Asker = Callable[[Content, random.Random], Question | None]


def choose(
    rng: random.Random, candidates: Iterable[Question], *, max_closed_share: float = 0.25
) -> tuple[Question, ...]:
    """Chooses up to `MAX_QUESTIONS` at random, in random order.

    Closed questions, those answered by yes, no, true or false, take the places of open ones, up to
    a share of them. A world whose text has two answers is wrong: an assertion fails.
    """
    by_text: dict[str, Question] = {}
    for question in candidates:
        known = by_text.setdefault(question.question, question)
        assert known.answer == question.answer, f"two answers to {question.question!r}"
    chosen = [q for q in by_text.values() if q.answer not in CLOSED_ANSWERS]
    rng.shuffle(chosen)
    chosen = chosen[:MAX_QUESTIONS]
    closed = [q for q in by_text.values() if q.answer in CLOSED_ANSWERS]
    max_closed = int(len(chosen) * max_closed_share)
    if len(closed) > max_closed:
        closed = rng.sample(closed, max_closed)
    if closed:
        chosen[-len(closed) :] = closed
    rng.shuffle(chosen)
    return tuple(chosen)


def ask_each(
    askers: Iterable[Asker[Content]], content: Content, rng: random.Random
) -> Iterator[Question]:
    """Yields a question of every kind that has an answer."""
    for asker in askers:
        question = asker(content, rng)
        if question is not None:
            yield question


def ask_twice(
    askers: Iterable[Asker[Content]], content: Content, rng: random.Random
) -> Iterator[Question]:
    """Yields up to two questions of every kind, with different answers.

    Two that share an answer may say the same in other words.
    """
    for asker in askers:
        first, second = asker(content, rng), asker(content, rng)
        if first is not None:
            yield first
        if second is not None and (first is None or first.answer != second.answer):
            yield second


def picture_sample(
    rng: random.Random,
    *pictures: PillowImage,
    caption: str,
    detail: str,
    asked: Iterable[Question],
    aspects: tuple[str, ...] = (),
) -> Sample:
    """Returns the sample of one or several pictures, with some of the questions they answer."""
    return Sample(
        media=tuple(map(Image, pictures)),
        caption=caption,
        detail=detail,
        questions=choose(rng, asked),
        aspects=aspects,
    )
