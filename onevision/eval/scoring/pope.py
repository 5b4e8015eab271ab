"""POPE: is there such an object? yes or no -> accuracy, precision, recall, F1; yes is positive.

Li et al., "POPE", 2023.
"""

from collections import Counter
from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.fields import text
from onevision.eval.scoring.scorer import Item, Score, Scorer, mean


def _score(answer: str, item: Item) -> Score:
    expected = text(item, "answer").lower().strip()
    if expected not in ("yes", "no"):
        raise DataError(f'field "answer" is {expected!r}, expected "yes" or "no"')
    predicted = answer.lower().strip()  # FIDELITY: "Yes." is neither
    return {"score": float(predicted == expected), "predicted": predicted, "expected": expected}


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    # FIDELITY: answers that are neither yes nor no count in the accuracy alone, and the ratio of
    # yes is that of the expected answers, not of the model's.
    count = Counter((score["expected"], score["predicted"]) for score in scores)
    hits = count["yes", "yes"]
    precision = _ratio(hits, hits + count["no", "yes"])
    recall = _ratio(hits, hits + count["yes", "no"])
    return {
        "accuracy": mean(scores),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "yes_ratio": _ratio(sum(score["expected"] == "yes" for score in scores), len(scores)),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


POPE = Scorer(score=_score, aggregate=_aggregate)
