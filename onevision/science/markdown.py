"""Estimates and tables -> Markdown, between two marks of a page whose rest is written by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from onevision.errors import InputError
from onevision.files import write_text


class Ranged(Protocol):
    """A value and its interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def write_between(page: Path, *, begin: str, end: str, text: str, empty: str) -> None:
    """Replaces what stands between two lines of a page; `empty` is the page if there is none.

    Raises InputError for a page without the two lines.
    """
    before = page.read_text(encoding="utf-8") if page.is_file() else empty
    if before.count(begin) != 1 or before.count(end) != 1:
        raise InputError(
            f"{page}: expected the lines {begin!r} and {end!r} once each, around its results; "
            "put them in"
        )
    head, rest = before.split(begin)
    write_text(page, f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")


def show_share(value: Ranged) -> str:
    """Formats a share in percent: "43.7 ± 9.3"."""
    return f"{100 * value.value:.1f} ± {100 * (value.high - value.value):.1f}"


def show_points(value: Ranged) -> str:
    """Formats a difference in points: "+1.3 ± 1.4"."""
    return f"{100 * value.value:+.1f} ± {100 * (value.high - value.value):.1f}"


def show_range(value: Ranged, *, signed: bool = False) -> str:
    """Formats a share with its interval, which need not be symmetric: "43.7 (36.0 to 51.9)"."""
    sign = "+" if signed else ""
    first, low, high = (f"{100 * n:{sign}.1f}" for n in (value.value, value.low, value.high))
    return f"{first} ({low} to {high})"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table whose first column is words, and whose others are numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
