"""Answer + expected JSON -> the share of its values that are right."""

import json
import re
from collections.abc import Iterator

from onevision.errors import DataError
from onevision.eval.scoring.scorer import Item, Score, Scorer, averages
from onevision.eval.scoring.text import exact_match

# A block of code around an answer.
_BLOCK = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
JsonValue = dict[str, object] | list[object]
Leaf = tuple[tuple[str | int, ...], object]


def json_share(answer: str, expected: object) -> float:
    """Returns the share of values that are right, over the values of the longer of both, 0 to 1.

    Values are compared at their places: numbers as numbers, texts up to case and punctuation at the
    ends. An answer that is no JSON scores 0.
    """
    found = parse_json(answer)
    if found is None:
        return 0.0
    wanted, given = dict(_leaves(expected)), dict(_leaves(found))
    right = sum(place in given and _equal(given[place], value) for place, value in wanted.items())
    return right / max(len(wanted), len(given), 1)


def parse_json(answer: str) -> JsonValue | None:
    """Returns the object or list that an answer is, in a block of code or not; None if neither."""
    block = _BLOCK.search(answer)
    try:
        value = json.loads(block[1] if block else answer)
    except (ValueError, RecursionError):
        return None
    return as_json(value)


def as_json(value: object) -> JsonValue | None:
    """Returns an object or a list as it is; None for anything else."""
    if isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    return list(value) if isinstance(value, list) else None


def _leaves(value: object, place: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Yields the values inside objects and lists, each with its place; empty ones are values."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*place, str(key)))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*place, number))
    else:
        yield place, value


def _equal(found: object, expected: object) -> bool:
    if isinstance(found, str) and isinstance(expected, str):
        return exact_match(found, expected)
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return found == expected


def _score(answer: str, item: Item) -> Score:
    expected = item.get("answer")
    value = parse_json(expected) if isinstance(expected, str) else as_json(expected)
    if value is None:
        raise DataError(f"field 'answer' is {expected!r:.60}, expected a JSON object or list")
    return {"score": json_share(answer, value), "is_json": float(parse_json(answer) is not None)}


JSON_VALUES = Scorer(score=_score, aggregate=averages("right_values"))
