r"""A row's fields -> the words that ask it, by the template of its task.

    "{question}\n{choices}"     fields in braces; `{choices}` is a line of each option
    "{question|capitalize}"     a filter: capitalize, strip, str (as Python writes it)
    "{case}", optional fields   see `Task`

All other braces stand for themselves.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from string import ascii_uppercase

from onevision.data.records import Fields
from onevision.errors import DataError
from onevision.eval.task import Task

PLACE = re.compile(r"\{([\w-]+)(?:\|(\w+))?\}")
FILTERS: Mapping[str, Callable[[object], str]] = {
    "str": str,
    "strip": lambda value: str(value).strip(),
    "capitalize": lambda value: str(value).capitalize(),
}
# How tables write that an optional field, or an option in a field of its own, is empty.
EMPTY = ("", "nan", "None", "N/A")


def ask(task: Task, fields: Fields, *, where: str) -> str:
    """Return the words of a row. Raises DataError for a missing field, naming `where`."""
    values = {name: _without(task, value) for name, value in fields.items()}
    derived: dict[str, object] = {}
    if task.choices:
        derived["choices"] = list(options(task, values, where=where))
    if task.cases:
        derived["case"] = _fill(_case(task, values, where=where), values | derived, task, where)
    for name, text in task.optional.items():
        known = values | derived
        derived[name] = "" if is_empty(known.get(name)) else _fill(text, known, task, where)
    return _fill(task.prompt, values | derived, task, where)


def options(task: Task, fields: Fields, *, where: str) -> tuple[str, ...]:
    """Return the options of a row. Raises DataError where there is no such field."""
    if len(task.choices) > 1:
        found = (fields.get(name) for name in task.choices)
        return tuple(str(choice) for choice in found if not is_empty(choice))
    (name,) = task.choices
    value = _field(fields, name, where)
    if value is None:
        return ()
    if isinstance(value, str):  # MMMU writes the list as Python would
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    if not isinstance(value, list):
        raise DataError(f"{where}, field {name!r}: it is {value!r:.40}; expected a list of options")
    return tuple(map(str, value))


def is_empty(value: object) -> bool:
    """Whether a field holds nothing, however a table writes that."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value == [] or (isinstance(value, str) and value in EMPTY)


def fill_path(template: str, fields: Fields, *, where: str) -> str:
    """Return a path with fields of the row in it. Raises DataError for a missing field."""
    return PLACE.sub(lambda place: str(_field(fields, place[1], where)), template)


def _fill(template: str, values: Fields, task: Task, where: str) -> str:
    def place(match: re.Match[str]) -> str:
        value = _field(values, match[1], where)
        if match[2] is not None:
            if match[2] not in FILTERS:
                raise DataError(f"task {task.name!r}: no filter {match[2]!r}; have {set(FILTERS)}")
            return FILTERS[match[2]](value)
        if match[1] == "choices" and isinstance(value, list):
            return "\n".join(_lettered(task, value))
        return "" if value is None else str(value)

    return PLACE.sub(place, template)


def _lettered(task: Task, choices: list[object]) -> list[str]:
    """Return a line of each option. By replacing, since options may hold braces."""
    return [
        task.choice_form.replace("{letter}", letter).replace("{choice}", str(choice))
        for letter, choice in zip(ascii_uppercase, choices, strict=False)
    ]


def _case(task: Task, values: Fields, *, where: str) -> str:
    for case in task.cases:
        if all(str(_field(values, name, where)) == wanted for name, wanted in case.when.items()):
            return case.text
    named = sorted({name for case in task.cases for name in case.when})
    found = ", ".join(f"{name} {values.get(name)!r}" for name in named)
    raise DataError(f"{where}: {found} is none of the cases of task {task.name!r}")


def _field(fields: Fields, name: str, where: str) -> object:
    if name not in fields:
        known = ", ".join(sorted(fields)) or "none"
        raise DataError(f"{where}, field {name!r}: it is missing; the row has {known}")
    return fields[name]


def _without(task: Task, value: object) -> object:
    if isinstance(value, str):
        for phrase in task.remove:
            value = value.replace(phrase, "")
    return value
