"""What a scorer is: one answer -> its score, all scores -> the benchmark's numbers.

A score is a mapping that JSON can hold. Its key "score" is the item's own number; the other keys
are what the numbers over all items need, such as a category.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onevision.errors import DataError
from onevision.eval.scoring.fields import number

Item = Mapping[str, object]
Score = Mapping[str, object]
Aggregate = Callable[[Sequence[Score]], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """How one benchmark is scored. Both functions raise DataError where a row lacks a field."""

    score: Callable[[str, Item], Score]
    """(answer, the benchmark's row without media) -> what `aggregate` needs of it."""

    aggregate: Aggregate
    """All scores -> numbers by name, in the benchmark's unit; the first is the headline."""


def averages(name: str, *, scale: float = 1.0, by: Sequence[str] = ()) -> Aggregate:
    """Return an aggregate: the mean score times `scale`, and the mean per label of each key."""

    def aggregate(scores: Sequence[Score]) -> dict[str, float]:
        return {name: scale * mean(scores), **group_averages(scores, by=by, scale=scale)}

    return aggregate


def group_averages(
    scores: Sequence[Score], *, by: Sequence[str], scale: float = 1.0
) -> dict[str, float]:
    """Return the mean score per label, as "key/label", of those scores that have the key."""
    return {
        f"{key}/{label}": scale * mean(group)
        for key in by
        for label, group in groups(scores, key).items()
    }


def mean(scores: Sequence[Score]) -> float:
    """Return the mean of the scores.

    Raises:
        DataError: if there are none.
    """
    refuse_none(scores)
    return sum(number(score, "score") for score in scores) / len(scores)


def refuse_none(scores: Sequence[Score]) -> None:
    """Raise DataError if there are no scores."""
    if not scores:
        raise DataError("there is no score to average; score at least one item")


def groups(scores: Sequence[Score], key: str) -> dict[str, list[Score]]:
    """Return the scores by their label under `key`, in order; those without the key are out."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        if key in score:
            found.setdefault(str(score[key]), []).append(score)
    return dict(sorted(found.items()))
