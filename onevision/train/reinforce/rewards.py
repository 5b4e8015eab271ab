"""An answer and its prompt -> a reward from 0 to 1, by the type of the right answer.

The rewards are the scorers of `onevision eval`, so a model is rewarded for what it is measured by.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from onevision.boxes import Coordinates, Point, find_boxes, find_marks, match_boxes
from onevision.eval.scoring.json_values import json_share
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.scoring.scorer import Item
from onevision.eval.scoring.text import anls, exact_match
from onevision.train.reinforce.data import AnswerType, RewardedPrompt

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
# (answer, prompt, how the model writes boxes) -> reward
Reward = Callable[[str, RewardedPrompt, Coordinates], float]


def reward_answer(
    answer: str, prompt: RewardedPrompt, *, coordinates: Coordinates, answer_tags: bool = False
) -> float:
    """Returns the reward of an answer that a rule scores.

    With `answer_tags`, what stands in the last <answer> is scored, and an answer without is 0.
    """
    if answer_tags:
        tagged = _TAGGED.findall(answer)
        if not tagged:
            return 0.0
        answer = tagged[-1].strip()
    return REWARDS[prompt.type](answer, prompt, coordinates)


def _choice(answer: str, prompt: RewardedPrompt, _: Coordinates) -> float:
    options = {"options": list(prompt.options)} if prompt.options else {}
    return _score("mcq", answer, {"answer": prompt.expected, **options})


def _number(answer: str, prompt: RewardedPrompt, _: Coordinates) -> float:
    return _score("relaxed_accuracy", answer.strip().rstrip("."), {"answer": prompt.expected})


def _exact(answer: str, prompt: RewardedPrompt, _: Coordinates) -> float:
    return float(any(exact_match(answer, accepted) for accepted in _texts(prompt)))


def _text(answer: str, prompt: RewardedPrompt, _: Coordinates) -> float:
    return anls(answer, _texts(prompt))


def _box(answer: str, prompt: RewardedPrompt, coordinates: Coordinates) -> float:
    return match_boxes(find_boxes(answer, coordinates=coordinates), prompt.boxes)


def _point(answer: str, prompt: RewardedPrompt, coordinates: Coordinates) -> float:
    found = find_marks(answer, coordinates=coordinates)
    points = [mark for mark in found if isinstance(mark, Point)]
    if len(points) != 1 or len(found) != 1:  # naming many places is no pointing
        return 0.0
    return float(any(box.contains(points[0]) for box in prompt.boxes))


def _json(answer: str, prompt: RewardedPrompt, _: Coordinates) -> float:
    return json_share(answer, prompt.expected)


def _score(scorer: str, answer: str, item: Item) -> float:
    score = SCORERS[scorer].score(answer, item)["score"]
    assert isinstance(score, int | float), "a scorer's `score` is a number"
    return float(score)


def _texts(prompt: RewardedPrompt) -> list[str]:
    assert isinstance(prompt.expected, tuple), "texts are read as a tuple"
    return list(prompt.expected)


REWARDS: Mapping[AnswerType, Reward] = MappingProxyType(
    {
        "choice": _choice,
        "number": _number,
        "exact": _exact,
        "text": _text,
        "box": _box,
        "point": _point,
        "json": _json,
    }
)
