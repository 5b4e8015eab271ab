"""Candidate questions in, the questions of one sample out: few, open for the most part, sure.

candidates: colour? colour? yes/no? yes/no? count? where? (none) ...
                    |  no answer twice, no contradiction, at most a share of yes and no
                    v
the sample: colour? yes/no? count? where?
"""

import random
from collections.abc import Iterable

from onevision.synth.sample import Question

CLOSED_ANSWERS = frozenset({"yes", "no", "true", "false"})


def choose(
    rng: random.Random,
    candidates: Iterable[Question | None],
    *,
    max_questions: int = 8,
    max_closed_share: float = 0.25,
) -> tuple[Question, ...]:
    """Choose by lot from the candidates that are questions at all.

    A text that has two answers among them is asked of none. Of a family's questions with the same
    answer only the first is asked: they may say the same in other words. Closed questions, those
    answered by yes, no, true or false, are at most `max_closed_share` of what is returned.
    """
    asked = _sure(candidates)
    closed = [q for q in asked if q.answer in CLOSED_ANSWERS]
    num_open = len(asked) - len(closed)
    num_closed = min(
        len(closed),
        int(max_questions * max_closed_share),
        int(num_open * max_closed_share / (1 - max_closed_share)),
    )
    kept = rng.sample(closed, num_closed)
    opened = [q for q in asked if q.answer not in CLOSED_ANSWERS]
    kept += rng.sample(opened, min(num_open, max_questions - num_closed))
    return tuple(q for q in asked if q in kept)


def _sure(candidates: Iterable[Question | None]) -> list[Question]:
    """Drop gaps, contradictions and repetitions."""
    answers: dict[str, set[str]] = {}
    first: dict[str, Question] = {}
    for question in candidates:
        if question is not None:
            answers.setdefault(question.question, set()).add(question.answer)
            first.setdefault(question.question, question)
    told: dict[tuple[str, str], Question] = {}
    for text, question in first.items():
        if len(answers[text]) == 1:
            told.setdefault((question.family, question.answer), question)
    return list(told.values())
