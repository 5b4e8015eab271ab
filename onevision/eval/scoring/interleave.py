"""LLaVA-Interleave Bench: letters by equality, texts by ROUGE-L, in two versions.

INTERLEAVE_BENCH is lmms-eval's: a category's score is the mean over its samples. The original
(LLaVA-NeXT, evaluate_interleave.py), which the paper's numbers come from, takes the mean over its
data sets, finds letters differently, and compares processed texts.
"""

import re
from collections.abc import Callable, Sequence

from onevision.errors import DataError
from onevision.eval.scoring.fields import text
from onevision.eval.scoring.punctuation import ONE_COMMA_BETWEEN_DIGITS, drop_punctuation
from onevision.eval.scoring.rouge import rouge_l
from onevision.eval.scoring.scorer import (
    Aggregate,
    Item,
    Score,
    Scorer,
    check_not_empty,
    groups,
    mean,
)

CATEGORIES = {
    "Spot-the-Diff": ("Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"),
    "Image-Edit": ("IEdit", "HQ-Edit", "MagicBrush"),
    "Visual-Story-Telling": ("AESOP", "FlintstonesSV", "PororoSV", "VIST"),
    "Visual-Cloze": ("COMICS_Dialogue", "RecipeQA_VisualCloze"),
    "Text-Rich-VQA": ("WebQA", "TQA", "OCR-VQA", "DocVQA"),
    "Multi-Image-VQA": (
        "MIT-States_StateCoherence",
        "MIT-States_PropertyCoherence",
        "VISION",
        "RecipeQA_ImageCoherence",
    ),
    "Puzzle": ("RAVEN",),
    "NLVR2": ("NLVR2_Mantis",),
    "QBench": ("QBench",),
    "ScanQA": ("ScanQA",),
    "ALFRED": ("ALFRED",),
    "nuscenes": ("nuscenes",),
    "ScanNet_chat": ("ScanNet_chat",),
    "ScanNet_task": ("ScanNet_task",),
    "BLINK": ("BLINK",),
    "MathVerse": ("MathVerse",),
    "SciVerse": ("SciVerse",),
    "Mantis": ("Mantis",),
}
_CATEGORY_OF = {task: category for category, tasks in CATEGORIES.items() for task in tasks}


def choice_match(answer: str, expected: str) -> bool:
    """Whether two answers name the same letter, else are equal up to punctuation and case."""
    return _letter_or_text(answer) == _letter_or_text(expected)


def _letter_or_text(answer: str) -> str:
    lettered = re.match(r"([A-E])\.\s*(.+)$", answer.strip(), re.IGNORECASE)
    if lettered:
        return lettered.group(1).upper()
    answer = _process(answer)
    alone = re.search(r"\b([a-e])\b", answer)  # FIDELITY: the article "a" is the letter A
    return alone.group(1).upper() if alone else answer


def _process(answer: str) -> str:
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    answer = drop_punctuation(answer, digit_comma=ONE_COMMA_BETWEEN_DIGITS)
    for mark in "'\")(":
        answer = answer.strip(mark)
    return answer.strip().lower()


def _original_choice_match(answer: str, expected: str) -> bool:
    # FIDELITY: "b: text" counts as "b", the last letter if there are several; "b text" does not.
    answer = _process(answer)
    if ":" in answer:
        alone = [part.strip() for part in answer.split(":") if part.strip() in tuple("abcdefgh")]
        answer = alone[-1] if alone else answer
    return answer == _process(expected)


def _original_rouge(answer: str, expected: str) -> float:
    return rouge_l(_process(answer), _process(expected))


def _score_by(
    choice: Callable[[str, str], bool], similarity: Callable[[str, str], float]
) -> Callable[[str, Item], Score]:
    def score(answer: str, item: Item) -> Score:
        task, kind = text(item, "sub_task"), text(item, "question_type")
        expected = text(item, "answer")
        if kind == "multi-choice":
            value = float(choice(answer, expected))
        elif kind == "open-ended":
            value = similarity(answer, expected)
        else:
            raise DataError(f'question_type is {kind!r}, expected "multi-choice" or "open-ended"')
        category = {"category": _CATEGORY_OF[task]} if task in _CATEGORY_OF else {}
        return {"score": value, "sub_task": task, **category}

    return score


def _over_data_sets(scores: Sequence[Score]) -> float:
    means = [mean(group) for group in groups(scores, "sub_task").values()]
    return sum(means) / len(means)


def _aggregate_by(category_score: Callable[[Sequence[Score]], float]) -> Aggregate:
    def aggregate(scores: Sequence[Score]) -> dict[str, float]:
        check_not_empty(scores)
        categories = {
            name: category_score(group) for name, group in groups(scores, "category").items()
        }
        if not categories:
            raise DataError("no sub_task of the rows is in a category of the interleave benchmark")
        tasks = {name: mean(group) for name, group in groups(scores, "sub_task").items()}
        return {
            "overall_score": sum(categories.values()) / len(categories),
            **{f"category/{name}": score for name, score in categories.items()},
            **{f"sub_task/{name}": score for name, score in tasks.items()},
        }

    return aggregate


INTERLEAVE_BENCH = Scorer(score=_score_by(choice_match, rouge_l), aggregate=_aggregate_by(mean))
INTERLEAVE_BENCH_ORIGINAL = Scorer(
    score=_score_by(_original_choice_match, _original_rouge),
    aggregate=_aggregate_by(_over_data_sets),
)
