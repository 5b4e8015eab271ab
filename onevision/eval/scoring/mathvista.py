"""MathVista: answer -> the choice or number it states, in the right type -> right or wrong.

If the answer does not directly state a choice or a number, the original asks GPT for it, and
`score_extraction` scores what a judge finds. Without a judge the whole answer is used, which is
right for prompts that ask for a letter or a number alone. Lu et al., "MathVista", 2024.
"""

import re
from collections.abc import Sequence

from onevision.eval.scoring.choices import LETTERS
from onevision.eval.scoring.fields import labels, number, text, texts
from onevision.eval.scoring.scorer import Item, Score, Scorer, average_groups, mean
from onevision.eval.scoring.text import edit_distance


def extract_directly(answer: str, item: Item) -> str | None:
    """Returns the choice or number that an answer is, or None if a judge must extract it."""
    answer = answer.strip()
    if not answer or (_is_choice(item) and answer in texts(item, "choices")):
        return answer
    convert = {"integer": int, "float": float}.get(text(item, "answer_type"))
    if convert is None:
        return None
    try:
        return str(convert(answer))
    except ValueError:
        return None


def score_extraction(extraction: str, item: Item) -> Score:
    """Scores the choice or number that an answer states."""
    predicted = _normalise(extraction, item)
    right = predicted is not None and predicted.strip() == str(item["answer"]).strip()
    return {
        "score": float(right),
        "predicted": predicted,
        **labels(item, "question_type", "answer_type"),
    }


def _normalise(extraction: str, item: Item) -> str | None:
    if _is_choice(item):
        return _choice(extraction.strip(), texts(item, "choices"))
    kind = text(item, "answer_type")
    try:
        if kind == "integer":
            return str(int(float(extraction)))
        if kind == "float":
            return str(round(float(extraction), int(number(item, "precision"))))
    except (ValueError, OverflowError):
        return None
    return extraction


def _choice(extraction: str, choices: Sequence[str]) -> str:
    """Returns the choice that "(B) text" or "B" names, else the closest by edit distance."""
    wrapped = re.search(r"\(([a-zA-Z])\)", extraction)
    named = wrapped.group(1).upper() if wrapped else extraction
    if len(named) == 1 and named in LETTERS[: len(choices)]:
        return choices[LETTERS.index(named)]
    return min(choices, key=lambda choice: edit_distance(named, choice))


def _is_choice(item: Item) -> bool:
    return text(item, "question_type") == "multi_choice"


def _score(answer: str, item: Item) -> Score:
    extraction = extract_directly(answer, item)
    extracted = answer.strip() if extraction is None else extraction
    return {**score_extraction(extracted, item), "direct": extraction is not None}


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    direct = sum(bool(score["direct"]) for score in scores if "direct" in score)
    return {
        "accuracy": 100 * mean(scores),
        "direct": 100 * direct / len(scores),
        **average_groups(scores, by=("question_type", "answer_type"), scale=100),
    }


MATHVISTA = Scorer(score=_score, aggregate=_aggregate, unit="percent")
