"""Multiple choice about images: AI2D, SeedBench, MMStar, RealWorldQA, BLINK and others.

Names that end in NOW follow lmms-eval 0.7.3; the others follow 0.2.3, current when the paper was
written.
"""

import re
from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.choices import (
    LETTERS,
    extract_mcq_letter,
    find_letter_before_period,
    find_stated_letter,
    letter,
)
from onevision.eval.scoring.fields import index, labels, text, texts
from onevision.eval.scoring.numbers import DIGITS_OF
from onevision.eval.scoring.scorer import (
    Item,
    Score,
    Scorer,
    average_groups,
    averages,
    groups,
    mean,
)
from onevision.eval.scoring.text import bare

_FOUR = "ABCD"
_MMSTAR_OPENINGS = ("", "(", "option ", "the answer is ")


def _score_mcq(answer: str, item: Item) -> Score:
    letters = LETTERS[: len(texts(item, "options"))] if "options" in item else _FOUR
    predicted = extract_mcq_letter(answer, letters)
    right = predicted == text(item, "answer").strip("() \n").upper()
    return {"score": float(right), "predicted": predicted}


def _score_ai2d(answer: str, item: Item) -> Score:
    predicted = find_letter_before_period(answer)
    right = bare(predicted) == bare(letter(index(item, "answer", below=len(LETTERS))))
    return {"score": float(right), "predicted": predicted}


def _score_muirbench(answer: str, item: Item) -> Score:
    predicted = find_letter_before_period(answer)
    right = predicted.lower().strip() == text(item, "answer").lower().strip()
    return {"score": float(right), "predicted": predicted, **labels(item, "task")}


def _score_seedbench(answer: str, item: Item) -> Score:
    predicted = answer.strip()[:1]
    right = predicted.lower() == text(item, "answer").lower().strip()
    return {"score": float(right), "predicted": predicted, **labels(item, "data_type")}


def _aggregate_seedbench(scores: Sequence[Score]) -> dict[str, float]:
    types = groups(scores, "data_type")
    return {"seed_all": mean(scores)} | {f"seed_{name}": mean(of) for name, of in types.items()}


def _score_mmstar(answer: str, item: Item) -> Score:
    lowered = answer.lower().strip().replace("\n", " ")
    expected = text(item, "answer").lower().strip()
    right = any(lowered.startswith(opening + expected) for opening in _MMSTAR_OPENINGS)
    return {"score": float(right), **labels(item, "category", "l2_category")}


def _score_mmstar_now(answer: str, item: Item) -> Score:
    predicted = extract_mcq_letter(answer, _FOUR)
    right = predicted == text(item, "answer").strip().upper()
    return {
        "score": float(right),
        "predicted": predicted,
        **labels(item, "category", "l2_category"),
    }


def _aggregate_mmstar(scores: Sequence[Score]) -> dict[str, float]:
    # FIDELITY: the average is over the finer categories' means, not over the samples.
    finer = [mean(group) for group in groups(scores, "l2_category").values()]
    if not finer:
        raise DataError('MMStar averages over "l2_category"; no row has this field')
    return {
        "average": sum(finer) / len(finer),
        **average_groups(scores, by=("category", "l2_category")),
    }


def _score_realworldqa(answer: str, item: Item) -> Score:
    predicted = _option_in_question(
        DIGITS_OF.get(answer.lower(), answer), question=text(item, "question")
    )
    right = bare(predicted) == bare(text(item, "answer"))
    return {"score": float(right), "predicted": predicted}


def _option_in_question(answer: str, *, question: str) -> str:
    # FIDELITY: options get letters in the order they occur, whatever letters the question gives
    # them, and keep their punctuation although the answer has just lost its own.
    answer = re.sub(r"[^\w\s]", "", answer).strip()
    options = [found.strip() for found in re.findall(r"\b[A-Z]\.\s+([^\n]*)", question)]
    letter_of = dict(zip(options, LETTERS, strict=False))
    found = re.search("|".join(map(re.escape, options)), answer)
    return letter_of.get(found.group(), answer) if found else answer


def _score_realworldqa_now(answer: str, item: Item) -> Score:
    expected = text(item, "answer").strip()
    if expected.upper() in tuple(_FOUR):
        predicted = extract_mcq_letter(answer, _FOUR)
        return {"score": float(predicted == expected.upper()), "predicted": predicted}
    predicted = answer.lower().strip().rstrip(".")
    return {"score": float(predicted == expected.lower()), "predicted": predicted}


def _score_blink(answer: str, item: Item) -> Score:
    letters = LETTERS[: len(texts(item, "choices"))]
    predicted = find_stated_letter(answer, letters)
    right = predicted == text(item, "answer").strip("()")
    return {"score": float(right), "predicted": predicted, **labels(item, "sub_task")}


def _aggregate_blink(scores: Sequence[Score]) -> dict[str, float]:
    tasks = [mean(group) for group in groups(scores, "sub_task").values()] or [mean(scores)]
    return {
        "blink_acc": sum(tasks) / len(tasks),
        **average_groups(scores, by=("sub_task",)),
    }


MCQ = Scorer(score=_score_mcq, aggregate=averages("accuracy"))
AI2D = Scorer(score=_score_ai2d, aggregate=averages("exact_match"))
MUIRBENCH = Scorer(score=_score_muirbench, aggregate=averages("accuracy", by=("task",)))
SEEDBENCH = Scorer(score=_score_seedbench, aggregate=_aggregate_seedbench)
MMSTAR = Scorer(score=_score_mmstar, aggregate=_aggregate_mmstar)
MMSTAR_NOW = Scorer(score=_score_mmstar_now, aggregate=_aggregate_mmstar)
REALWORLDQA = Scorer(score=_score_realworldqa, aggregate=averages("exact_match"))
REALWORLDQA_NOW = Scorer(score=_score_realworldqa_now, aggregate=averages("exact_match"))
BLINK = Scorer(score=_score_blink, aggregate=_aggregate_blink)
