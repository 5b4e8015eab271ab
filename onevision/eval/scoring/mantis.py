"""Mantis-Eval: answer + question -> whether the option or the short answer is right."""

import re
from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.choices import LETTERS
from onevision.eval.scoring.fields import labels, text, texts
from onevision.eval.scoring.scorer import Item, Score, Scorer, averages

_MARKS = ("final answer:", "the answer is", "answer:")


def extract_final_answer(answer: str) -> str:
    """Returns what follows the first "final answer:", else "the answer is", else "answer:"."""
    lowered = answer.lower()
    for mark in _MARKS:
        start = lowered.find(mark)
        if start >= 0:
            return answer[start + len(mark) :].strip()
    return answer


def _score(answer: str, item: Item) -> Score:
    expected = text(item, "answer").strip("()\n ")
    kind = text(item, "question_type")
    if kind == "multi-choice":
        right = _chooses(answer, expected=expected, options=texts(item, "options"))
    elif kind == "short-answer":
        right = extract_final_answer(answer).lower() == expected.lower()
    else:
        raise DataError(f'question_type is {kind!r}, expected "multi-choice" or "short-answer"')
    return {"score": float(right), **labels(item, "question_type")}


def _chooses(answer: str, *, expected: str, options: Sequence[str]) -> bool:
    if len(expected) != 1:
        expected = _first_alphabetic(expected)
    chosen = _option(extract_final_answer(answer))
    if chosen and chosen in LETTERS[: len(options)]:
        return chosen == expected.upper()
    position = LETTERS.find(expected.upper())
    if not 0 <= position < len(options):
        return False
    return answer.strip() == _drop_letter(options[position], expected).strip()


def _option(answer: str) -> str:
    # FIDELITY: the first alphabetic character, so "I choose B" chooses "I", which is not an option.
    found = re.match(r"Answer: ([A-Z])", answer)
    return found.group(1) if found else _first_alphabetic(answer).upper()


def _first_alphabetic(answer: str) -> str:
    return next((character for character in answer if character.isalpha()), "")


def _drop_letter(option: str, expected: str) -> str:
    for prefix in (f"{expected}.", f"{expected}:", f"({expected})"):
        if option.startswith(prefix):
            return option[len(prefix) :]
    return option


MANTIS = Scorer(score=_score, aggregate=averages("mantis_score", by=("question_type",)))
