r"""A row's fields -> the prompt, by the template of its task.

    "{question}\n{choices}"     fields in braces; `{choices}` has a line per option
    "{question|capitalize}"     a filter: capitalize, strip, str (Python syntax)
    "{case}", optional fields   see `Task`

All other braces are literal.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from string import ascii_uppercase

from onevision.data.forms.raw import Fields
from onevision.errors import DataError
from onevision.eval.task import Task

PLACEHOLDER = re.compile(r"\{([\w-]+)(?:\|(\w+))?\}")
FILTERS: Mapping[str, Callable[[object], str]] = {
    "str": str,
    "strip": lambda value: str(value).strip(),
    "capitalize": lambda value: str(value).capitalize(),
}


@dataclass(frozen=True)
class LetteredOptions:
    """A row's options, each with the letter of its place; `str` gives a list in Python syntax."""

    letters: tuple[str, ...]
    texts: tuple[str, ...]

    def __str__(self) -> str:
        return str(list(self.texts))

    def __len__(self) -> int:
        return len(self.texts)


def format_prompt(task: Task, fields: Fields, *, where: str) -> str:
    """Returns the prompt of a row. Raises DataError for a missing field, naming `where`."""
    values = {name: _remove_phrases(task, value) for name, value in fields.items()}
    derived: dict[str, object] = {}
    if task.choices:
        derived["choices"] = _read_options(task, values, where=where)
    if task.cases:
        derived["case"] = _fill(
            _choose_case(task, values, where=where), values | derived, task, where
        )
    for name, text in task.optional.items():
        known = values | derived
        absent = is_empty(known.get(name), task.empty)
        derived[name] = "" if absent else _fill(text, known, task, where)
    return _fill(task.prompt, values | derived, task, where)


def _read_options(task: Task, fields: Fields, *, where: str) -> LetteredOptions:
    """Returns the options. In fields of their own, an absent one leaves its letter unused."""
    if len(task.choices) > 1:
        found = dict(zip(ascii_uppercase, map(fields.get, task.choices), strict=False))
        kept = {letter: str(o) for letter, o in found.items() if not _is_absent(o, task.empty)}
        return LetteredOptions(tuple(kept), tuple(kept.values()))
    (name,) = task.choices
    value = _get_field(fields, name, where)
    if value is None:
        return LetteredOptions((), ())
    if isinstance(value, str):  # MMMU stores the list in Python syntax
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    if not isinstance(value, list):
        raise DataError(f"{where}, field {name!r}: it is {value!r:.40}; expected a list of options")
    return LetteredOptions(tuple(ascii_uppercase[: len(value)]), tuple(map(str, value)))


def is_empty(value: object, spellings: Sequence[str] = ()) -> bool:
    """Whether a field holds nothing: null, NaN, no text, an empty list, or one of `spellings`."""
    if isinstance(value, LetteredOptions):
        return not value.texts
    return value in ("", []) or _is_absent(value, spellings)


def _is_absent(value: object, spellings: Sequence[str]) -> bool:
    """Whether there is no value; an empty text is one."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value in spellings)


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
        if isinstance(value, LetteredOptions):
            return "\n".join(_format_options(task, value))
        return "" if value is None else str(value)

    return PLACEHOLDER.sub(replace, template)


def _format_options(task: Task, options: LetteredOptions) -> list[str]:
    """Returns a line per option. Not by str.format, since options may contain braces."""
    return [
        task.choice_form.replace("{letter}", letter).replace("{choice}", text)
        for letter, text in zip(options.letters, options.texts, strict=True)
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
