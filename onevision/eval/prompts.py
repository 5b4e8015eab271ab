r"""A row's fields -> the prompt, by the template of its task.

    "{question}\n{choices}"     fields in braces; `{choices}` has a line per option
    "{question|capitalize}"     a filter: capitalize, strip, str (Python syntax)
    "{case}", optional fields   see `Task`

All other braces are literal.
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

PLACEHOLDER = re.compile(r"\{([\w-]+)(?:\|(\w+))?\}")
FILTERS: Mapping[str, Callable[[object], str]] = {
    "str": str,
    "strip": lambda value: str(value).strip(),
    "capitalize": lambda value: str(value).capitalize(),
}
# How tables spell an empty optional field, or an empty option in a field of its own.
EMPTY = ("", "nan", "None", "N/A")


def format_prompt(task: Task, fields: Fields, *, where: str) -> str:
    """Returns the prompt of a row. Raises DataError for a missing field, naming `where`."""
    values = {name: _remove_phrases(task, value) for name, value in fields.items()}
    derived: dict[str, object] = {}
    if task.choices:
        derived["choices"] = list(_read_options(task, values, where=where))
    if task.cases:
        derived["case"] = _fill(
            _choose_case(task, values, where=where), values | derived, task, where
        )
    for name, text in task.optional.items():
        known = values | derived
        derived[name] = "" if is_empty(known.get(name)) else _fill(text, known, task, where)
    return _fill(task.prompt, values | derived, task, where)


def _read_options(task: Task, fields: Fields, *, where: str) -> tuple[str, ...]:
    if len(task.choices) > 1:
        found = (fields.get(name) for name in task.choices)
        return tuple(str(choice) for choice in found if not is_empty(choice))
    (name,) = task.choices
    value = _get_field(fields, name, where)
    if value is None:
        return ()
    if isinstance(value, str):  # MMMU stores the list in Python syntax
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    if not isinstance(value, list):
        raise DataError(f"{where}, field {name!r}: it is {value!r:.40}; expected a list of options")
    return tuple(map(str, value))


def is_empty(value: object) -> bool:
    """Whether a field is empty, in any of the spellings that tables have."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value == [] or (isinstance(value, str) and value in EMPTY)


def fill_path(template: str, fields: Fields, *, where: str) -> str:
    """Returns a path with fields of the row filled in. Raises DataError for a missing field."""
    return PLACEHOLDER.sub(lambda match: str(_get_field(fields, match[1], where)), template)


def _fill(template: str, values: Fields, task: Task, where: str) -> str:
    def replace(match: re.Match[str]) -> str:
        value = _get_field(values, match[1], where)
        if match[2] is not None:
            if match[2] not in FILTERS:
                raise DataError(
                    f"task {task.name!r}: no filter {match[2]!r}; expected {', '.join(FILTERS)}"
                )
            return FILTERS[match[2]](value)
        if match[1] == "choices" and isinstance(value, list):
            return "\n".join(_format_options(task, value))
        return "" if value is None else str(value)

    return PLACEHOLDER.sub(replace, template)


def _format_options(task: Task, choices: list[object]) -> list[str]:
    """Returns a line per option. Not by str.format, since options may contain braces."""
    return [
        task.choice_form.replace("{letter}", letter).replace("{choice}", str(choice))
        for letter, choice in zip(ascii_uppercase, choices, strict=False)
    ]


def _choose_case(task: Task, values: Fields, *, where: str) -> str:
    for case in task.cases:
        if all(
            str(_get_field(values, name, where)) == wanted for name, wanted in case.when.items()
        ):
            return case.text
    named = sorted({name for case in task.cases for name in case.when})
    found = ", ".join(f"{name} {values.get(name)!r}" for name in named)
    raise DataError(f"{where}: {found} is none of the cases of task {task.name!r}")


def _get_field(fields: Fields, name: str, where: str) -> object:
    if name not in fields:
        known = ", ".join(sorted(fields)) or "none"
        raise DataError(f"{where}, field {name!r}: it is missing; the row has {known}")
    return fields[name]


def _remove_phrases(task: Task, value: object) -> object:
    if isinstance(value, str):
        for phrase in task.remove:
            value = value.replace(phrase, "")
    return value
