"""A benchmark's row + a field's name -> its value, or a DataError that names the field."""

import ast
import math
from collections.abc import Mapping, Sequence

from onevision.errors import DataError


def text(row: Mapping[str, object], name: str) -> str:
    """Returns a text field."""
    value = _value(row, name)
    if not isinstance(value, str):
        raise _field_error(name, value, "a text")
    return value


def texts(row: Mapping[str, object], name: str) -> list[str]:
    """Returns a list of texts, given as a list or as a Python literal, as MMMU stores options."""
    value = _value(row, name)
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise _field_error(name, value, "a list of texts") from None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _field_error(name, value, "a list of texts")
    if not value:
        raise _field_error(name, value, "at least one text")
    return [str(entry) for entry in value]


def text_or_texts(row: Mapping[str, object], name: str) -> list[str]:
    """Returns the accepted answers of a field that holds one text or a list of them."""
    value = _value(row, name)
    return [value] if isinstance(value, str) else texts(row, name)


def number(row: Mapping[str, object], name: str) -> float:
    """Returns a number."""
    value = _value(row, name)
    if not isinstance(value, int | float):
        raise _field_error(name, value, "a number")
    return value


def numbers(row: Mapping[str, object], name: str, *, count: int) -> list[float]:
    """Returns a list of so many numbers."""
    value = _value(row, name)
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count
    if not is_list or not all(isinstance(one, int | float) for one in value):
        raise _field_error(name, value, f"a list of {count} numbers")
    return [float(one) for one in value]


def identifier(row: Mapping[str, object], name: str) -> str:
    """Returns an item's id, a text or an integer, as text."""
    value = _value(row, name)
    if not isinstance(value, str | int):
        raise _field_error(name, value, "a text or an integer")
    return str(value)


def whole(row: Mapping[str, object], name: str) -> int:
    """Returns an integer from 0, given as a number or as digits, as AI2D stores answers."""
    value = _value(row, name)
    digits = str(value).strip()
    if isinstance(value, bool) or not digits.isdecimal():
        raise _field_error(name, value, "an integer from 0")
    return int(digits)


def index(row: Mapping[str, object], name: str, *, below: int) -> int:
    """Returns the index, from 0, of one of `below` options."""
    value = whole(row, name)
    if value >= below:
        raise _field_error(name, value, f"an index below {below}")
    return value


def labels(row: Mapping[str, object], *names: str) -> dict[str, str]:
    """Returns the named fields that are not missing, as text."""
    return {name: str(row[name]) for name in names if name in row and not missing(row[name])}


def missing(value: object) -> bool:
    """Whether a table's cell is empty: None, NaN or, in some data sets, "nan"."""
    return value is None or value == "nan" or (isinstance(value, float) and math.isnan(value))


def _value(row: Mapping[str, object], name: str) -> object:
    if name not in row:
        found = ", ".join(sorted(row)) or "none"
        raise DataError(f"the row has no field {name!r}; it has {found}; check the task's fields")
    return row[name]


def _field_error(name: str, value: object, expected: str) -> DataError:
    return DataError(f"field {name!r} is {str(value)[:60]!r}, expected {expected}")
