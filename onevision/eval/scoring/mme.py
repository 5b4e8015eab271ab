"""MME: yes or no, asked twice about each image -> accuracy and accuracy+ per image and category.

Fu et al., "MME", 2023. An image's score is the share of right answers plus whether both are right,
each in percent; a category's is the mean over images (200 at most), perception and cognition are
sums over categories (2000 and 800 at most).
"""

from collections.abc import Sequence

from onevision.errors import DataError
from onevision.eval.scoring.fields import identifier, number, text
from onevision.eval.scoring.scorer import Item, Score, Scorer, groups, refuse_none

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


def yes_or_no(answer: str) -> str:
    """Return "yes", "no" or "other": a word alone, one letter, or what the first 4 characters say.

    FIDELITY: "Not sure" is a no, and so is "Nothing but yes".
    """
    answer = answer.lower().strip().replace(".", "")
    if len(answer) == 1:
        return {"y": "yes", "n": "no"}.get(answer, "other")
    return next((word for word in _WORDS if word in answer[:_PREFIX]), "other")


def _score(answer: str, item: Item) -> Score:
    category = text(item, "category")
    if category not in PERCEPTION + COGNITION:
        known = ", ".join(PERCEPTION + COGNITION)
        raise DataError(f"MME has no category {category!r}; it has {known}")
    expected = text(item, "answer").lower().strip().replace(".", "")
    if expected not in _WORDS:
        raise DataError(f'field "answer" is {expected!r}, expected "Yes" or "No"')
    predicted = yes_or_no(answer)
    return {
        "score": float(predicted == expected),
        "predicted": predicted,
        "question_id": identifier(item, "question_id"),
        "category": category,
    }


def _aggregate(scores: Sequence[Score]) -> dict[str, float]:
    refuse_none(scores)
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
            f"MME image {questions[0]['question_id']!r} has {len(questions)} answers, expected "
            f"{_NUM_QUESTIONS}; score whole images"
        )
    return round(sum(number(question, "score") for question in questions))


def _percent(rights: Sequence[int]) -> float:
    return 100 * sum(rights) / (_NUM_QUESTIONS * len(rights))


def _percent_plus(rights: Sequence[int]) -> float:
    return 100 * sum(right == _NUM_QUESTIONS for right in rights) / len(rights)


MME = Scorer(score=_score, aggregate=_aggregate)
