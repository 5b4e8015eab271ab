"""Answer + expected number -> whether it is close enough: ChartQA's relaxed accuracy."""

from collections.abc import Sequence

from onevision.eval.scoring.fields import text
from onevision.eval.scoring.scorer import Item, Score, Scorer, groups, mean

_TOLERANCE = 0.05

DIGITS_OF = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
"""Number words up to ten as digits."""


def relaxed_match(answer: str, expected: str) -> bool:
    """Whether a number is within 5 % of the expected one, or a text equal to it up to case.

    FIDELITY: "%" divides by 100, commas are not parsed, an expected 0 is compared as text.
    Masry et al., "ChartQA", 2022, section 5.1.
    """
    value, target = parse_number(answer), parse_number(expected)
    if value is not None and target:
        return abs(value - target) / abs(target) <= _TOLERANCE
    return answer.lower() == expected.lower()


def parse_number(answer: str) -> float | None:
    """Returns the number that a text is, a percentage as a share; None if it is none."""
    try:
        return float(answer.rstrip("%")) / 100 if answer.endswith("%") else float(answer)
    except ValueError:
        return None


def _score(answer: str, item: Item) -> Score:
    right = float(relaxed_match(answer, text(item, "answer")))
    if "type" not in item:
        return {"score": right}
    return {"score": right, "split": "human" if item["type"] == "human_test" else "augmented"}


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    splits = groups(scores, "split")
    return {"relaxed_overall": mean(scores)} | {
        f"relaxed_{split}_split": mean(group) for split, group in splits.items()
    }


RELAXED_ACCURACY = Scorer(score=_score, aggregate=_aggregate)
