"""Answers -> the units that the bootstrap resamples together, such as questions about one image."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

from onevision.files import Line

AnyScore = TypeVar("AnyScore")


def find_units(task: Line, answers: Sequence[Line]) -> list[Hashable]:
    """Returns the unit of each answer: the value of the task's `unit` field, or its row."""
    if task["unit"] is None:
        return [line["row"] for line in answers]
    name, _, divisor = task["unit"].partition(" % ")
    values = [line["item"].get(name, f"row {line['row']}") for line in answers]
    return [str(int(value) % int(divisor)) if divisor else str(value) for value in values]


def group_by_unit(scores: Sequence[AnyScore], units: Sequence[Hashable]) -> list[list[AnyScore]]:
    """Returns the scores of each unit, in order."""
    found: dict[Hashable, list[AnyScore]] = {}
    for one, unit in zip(scores, units, strict=True):
        found.setdefault(unit, []).append(one)
    return list(found.values())
