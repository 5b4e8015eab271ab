"""ScienceQA: answer + question -> right or wrong; accuracy by subject, context and grade."""

import re
from collections.abc import Sequence

from onevision.eval.scoring.choices import LETTERS, letter
from onevision.eval.scoring.fields import index, labels, texts
from onevision.eval.scoring.scorer import Item, Score, Scorer, average_groups, groups, mean

_LAST_LOWER_GRADE = 6


def _score(answer: str, item: Item) -> Score:
    # FIDELITY: "B. text" is wrong, since the answer is lower-cased before its first letter is
    # tested for upper case. Later versions fix this; see SCIENCE_QA_NOW.
    return {"score": float(answer.strip().lower() == _expected_letter(item)), **_kinds(item)}


def _score_now(answer: str, item: Item) -> Score:
    answer = answer.strip()
    if answer[:1].isupper() and answer[1:2] == ".":
        answer = answer[0]
    return {"score": float(answer.lower() == _expected_letter(item)), **_kinds(item)}


def find_science_letter(answer: str, letters: str) -> str | None:
    """Returns the letter that an answer gives; None if it gives none, or several.

    In order: the answer is a letter, it begins "B. text", or it says "The answer is B.", as models
    trained on the QCM-LEA form do (the first LLaVA's evaluation reads these three).
    """
    answer = answer.strip()
    if answer.strip("().").upper() in tuple(letters):
        return answer.strip("().").upper()
    if re.match(rf"[{letters}]\. ", answer):
        return answer[0]
    stated = set(re.findall(rf"[Tt]he answer is \(?([{letters}])\b", answer))
    return stated.pop() if len(stated) == 1 else None


def _score_lea(answer: str, item: Item) -> Score:
    found = find_science_letter(answer, LETTERS[: len(texts(item, "choices"))])
    right = found is not None and found.lower() == _expected_letter(item)
    return {"score": float(right), "predicted": found, **_kinds(item)}


def _expected_letter(item: Item) -> str:
    return letter(index(item, "answer", below=len(LETTERS))).lower()


def _kinds(item: Item) -> dict[str, object]:
    """Returns the item's subject, grades and contexts, as far as the row has them.

    A row has no media; `has_image` says whether there was an image. "No context" means neither
    image nor hint, and a question may have both (Lu et al., "ScienceQA", 2022).
    """
    kinds: dict[str, object] = dict(labels(item, "subject"))
    grade = labels(item, "grade").get("grade", "").removeprefix("grade")
    if grade.isdecimal():
        kinds["grade"] = "1-6" if int(grade) <= _LAST_LOWER_GRADE else "7-12"
    if "hint" in item:
        kinds["text"] = bool(item["hint"])
    if "has_image" in item:
        kinds["image"] = bool(item["has_image"])
    return kinds


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    contexts = {
        "context/text": groups(scores, "text").get("True", []),
        "context/image": groups(scores, "image").get("True", []),
        "context/none": [
            score for score in groups(scores, "image").get("False", []) if not score.get("text")
        ],
    }
    return {
        "exact_match": mean(scores),
        **average_groups(scores, by=("subject", "grade")),
        **{name: mean(group) for name, group in contexts.items() if group},
    }


SCIENCE_QA = Scorer(score=_score, aggregate=_aggregate)
SCIENCE_QA_NOW = Scorer(score=_score_now, aggregate=_aggregate)
SCIENCE_QA_LEA = Scorer(score=_score_lea, aggregate=_aggregate)
