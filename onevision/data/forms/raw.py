"""A record as it lies in its source, with fields of any names and types, and errors about one."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onevision.errors import DataError

# Any: whatever a JSON or Parquet file holds; it is checked where it is read.
Fields = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """A record as it lies in its source, and its name for messages ("train.json, row 12")."""

    where: str
    fields: Fields
    # Where relative media paths start; None if the source holds the bytes of its media.
    root: Path | None
    # Further directories that links below the root may lead to.
    links: tuple[Path, ...] = ()


def field_error(record: RawRecord, field: str, problem: str) -> DataError:
    """Returns an error that names record and field."""
    return DataError(f"{record.where}, field {field!r}: {problem}")


def describe(value: object) -> str:
    """Returns the type and the beginning of a value for messages, however large it is."""
    if value is None:
        return "missing"
    text = value if isinstance(value, str) else reprlib.repr(value)
    return f"{type(value).__name__} {text[:40]!r}"


def is_empty(value: object) -> bool:
    """Whether a field holds nothing: null, "" or []."""
    return value is None or (isinstance(value, (str, list)) and not value)
