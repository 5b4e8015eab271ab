"""Yes or no -> MME's points, or POPE's accuracy, precision, recall and F1.

MME asks twice about each image (Fu et al., "MME", 2023). An image's score is the share of right
answers plus whether both are right, each in per cent; a category's is the mean over images (200 at
most); perception and cognition are sums over categories (2000 and 800 at most).

POPE asks whether an object is in the image; yes is positive (Li et al., "POPE", 2023).
"""

from collections import Counter
from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.fields import identifier, number, text
from onevision.eval.scoring.scorer import Item, Score, Scorer, check_not_empty, groups, mean
from onevision.plural import counted

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = (
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
)
_WORDS = ("yes", "no")
_NUM_QUESTIONS = 2
_PREFIX = 4


def parse_yes_or_no(answer: str) -> str:
    """Returns "yes", "no" or "other", from a single letter or the first 4 characters.

    FIDELITY: "Not sure" is a no, and so is "Nothing but yes".
    """
    answer = answer.lower().strip().replace(".", "")
    if len(answer) == 1:
        return {"y": "yes", "n": "no"}.get(answer, "other")
    return next((word for word in _WORDS if word in answer[:_PREFIX]), "other")


def _score_mme(answer: str, item: Item) -> Score:
    category = text(item, "category")
    if category not in PERCEPTION + COGNITION:
        known = ", ".join(PERCEPTION + COGNITION)
        raise DataError(f"MME has no category {category!r}; it has {known}")
    expected = text(item, "answer").lower().strip().replace(".", "")
    if expected not in _WORDS:
        raise DataError(f'field "answer" is {expected!r}, expected "Yes" or "No"')
    predicted = parse_yes_or_no(answer)
    return {
        "score": float(predicted == expected),
        "predicted": predicted,
        "question_id": identifier(item, "question_id"),
        "category": category,
    }


def _aggregate_mme(scores: Sequence[Score]) -> dict[str, float]:
    check_not_empty(scores)
    images = {
        category: [_right_of_image(image) for image in groups(of, "question_id").values()]
        for category, of in groups(scores, "category").items()
    }
    points = {
        category: _percent(rights) + _percent_plus(rights) for category, rights in images.items()
    }
    everything = [right for rights in images.values() for right in rights]
    return {
        "mme_perception_score": sum(points.get(category, 0.0) for category in PERCEPTION),
        "mme_cognition_score": sum(points.get(category, 0.0) for category in COGNITION),
        "acc": _percent(everything),
        "acc_plus": _percent_plus(everything),
        **{f"category/{category}": score for category, score in points.items()},
    }


def _right_of_image(questions: Sequence[Score]) -> int:
    if len(questions) != _NUM_QUESTIONS:
        raise DataError(
            f"MME image {questions[0]['question_id']!r} has {counted(len(questions), 'answer')}, "
            f"expected {_NUM_QUESTIONS}; score whole images"
        )
    return round(sum(number(question, "score") for question in questions))


def _percent(rights: Sequence[int]) -> float:
    return 100 * sum(rights) / (_NUM_QUESTIONS * len(rights))


def _percent_plus(rights: Sequence[int]) -> float:
    return 100 * sum(right == _NUM_QUESTIONS for right in rights) / len(rights)


def _score_pope(answer: str, item: Item) -> Score:
    expected = text(item, "answer").lower().strip()
    if expected not in ("yes", "no"):
        raise DataError(f'field "answer" is {expected!r}, expected "yes" or "no"')
    predicted = answer.lower().strip()  # FIDELITY: "Yes." is neither
    return {"score": float(predicted == expected), "predicted": predicted, "expected": expected}


def _aggregate_pope(scores: Sequence[Score]) -> dict[str, float]:
    # FIDELITY: answers that are neither yes nor no count only in the accuracy, and the ratio of yes
    # is that of the expected answers, not of the model's.
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


MME = Scorer(score=_score_mme, aggregate=_aggregate_mme, unit="points")
POPE = Scorer(score=_score_pope, aggregate=_aggregate_pope)
