"""What a scorer is: an answer -> its score; all scores -> the benchmark's metrics.

A score is a mapping of JSON values. Its key "score" is the item's own number; the other keys are
what the metrics need, such as a category.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onevision.errors import DataError
from onevision.eval.scoring.fields import number

Item = Mapping[str, object]
Score = Mapping[str, object]
Aggregate = Callable[[Sequence[Score]], dict[str, float]]
# What a benchmark's metrics are given in: 0 to 1, per cent, or points of its own (MME: to 2000).
Unit = Literal["fraction", "percent", "points"]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """How a benchmark is scored. Both functions raise DataError if a row lacks a field."""

    score: Callable[[str, Item], Score]
    """(answer, the benchmark's row without media) -> what `aggregate` needs."""

    aggregate: Aggregate
    """All scores -> metrics by name; the first is the headline unless the task names another."""

    unit: Unit = "fraction"
    """What the metrics are given in."""


def averages(name: str, *, scale: float = 1.0, by: Sequence[str] = ()) -> Aggregate:
    """Returns an aggregate: the mean score times `scale`, overall and per label of each key."""

    def aggregate(scores: Sequence[Score]) -> dict[str, float]:
        return {name: scale * mean(scores), **average_groups(scores, by=by, scale=scale)}

    return aggregate


def average_groups(
    scores: Sequence[Score], *, by: Sequence[str], scale: float = 1.0
) -> dict[str, float]:
    """Returns the mean score per label, as "key/label", over the scores that have the key."""
    return {
        f"{key}/{label}": scale * mean(group)
        for key in by
        for label, group in groups(scores, key).items()
    }


def mean(scores: Sequence[Score]) -> float:
    """Returns the mean of the scores.

    Raises:
        DataError: if there are none.
    """
    check_not_empty(scores)
    return sum(number(score, "score") for score in scores) / len(scores)


def check_not_empty(scores: Sequence[Score]) -> None:
    """Raises DataError if there are no scores."""
    if not scores:
        raise DataError("there are no scores to average; score at least one item")


def groups(scores: Sequence[Score], key: str) -> dict[str, list[Score]]:
    """Returns the scores by their label under `key`; those without the key are skipped.

    Labels are sorted, numbers by their value: 9 before 10.
    """
    found: dict[str, list[Score]] = {}
    for score in scores:
        if key in score:
            found.setdefault(str(score[key]), []).append(score)
    order = {label: (int(label) if label.isdecimal() else -1, label) for label in found}
    return dict(sorted(found.items(), key=lambda pair: order[pair[0]]))
