"""A judge's words -> numbers, strictly: what is not exactly as demanded is unreadable, not guessed.

A fence of a code block around the words is forgiven, and white space at their ends.
"""

import ast
import json
import math
import re
from collections.abc import Sequence

_FENCE = re.compile(r"```(?:\w+)?\s*\n(.*)\n\s*```", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


class UnreadableReplyError(Exception):
    """A reply that does not have the demanded form; holds what was wrong and how it begins."""

    def __init__(self, trouble: str, text: str) -> None:
        super().__init__(f"{trouble}: {' '.join(text.split())[:120]!r}")


def two_scores(text: str) -> tuple[float, float]:
    """Read the first line: two numbers of 1 to 10, apart by a space or a comma."""
    first, *_ = text.strip().split("\n")
    words = first.replace(",", " ").split()
    if len(words) != 2:
        raise UnreadableReplyError("the first line is not two numbers", text)
    one, other = (_number(word, 1, 10, text) for word in words)
    return one, other


def only_number(text: str, *, low: float, high: float) -> float:
    """Read a reply that is one number and nothing else."""
    return _number(_bare(text), low, high, text)


def labelled_number(text: str, *, label: str, low: float, high: float) -> float:
    """Read the number after `label:`; it may stand anywhere, but only once."""
    found = re.findall(rf"{re.escape(label)}:\s*\**\s*([+-]?\d+(?:\.\d+)?)", text)
    if len(found) != 1:
        raise UnreadableReplyError(f"{len(found)} lines with {label!r}, expected one", text)
    return _number(found[0], low, high, text)


def one_of(text: str, choices: Sequence[str]) -> str:
    """Read a reply that is one of the choices; case and a final period are forgiven."""
    said = _bare(text).rstrip(".").upper()
    for choice in choices:
        if said == choice.upper():
            return choice
    raise UnreadableReplyError(f"not one of {', '.join(choices)}", text)


def record(text: str) -> dict[str, object]:
    """Read a dictionary in Python's or JSON's spelling."""
    read = _literal(text)
    if not isinstance(read, dict):
        raise UnreadableReplyError("not a dictionary", text)
    return read


def score_of(text: str, name: str, *, high: float) -> float:
    """Read the number called `name`, 0 to `high`, of a dictionary."""
    value = record(text).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnreadableReplyError(f"no number called {name!r}", text)
    return _number(str(value), 0, high, text)


def strings(text: str) -> list[str]:
    """Read a list of strings in Python's or JSON's spelling."""
    read = _literal(text)
    if not isinstance(read, list) or not all(isinstance(one, str) for one in read):
        raise UnreadableReplyError("not a list of strings", text)
    return read


def _literal(text: str) -> object:
    bare = _bare(text)
    try:
        return json.loads(bare)
    except ValueError:
        pass
    try:
        return ast.literal_eval(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UnreadableReplyError("neither Python's spelling nor JSON", text) from error


def _bare(text: str) -> str:
    fenced = _FENCE.fullmatch(text.strip())
    return (fenced[1] if fenced else text).strip()


def _number(word: str, low: float, high: float, text: str) -> float:
    if not _NUMBER.fullmatch(word):
        raise UnreadableReplyError(f"{word[:20]!r} is not a number", text)
    value = float(word)
    if not (math.isfinite(value) and low <= value <= high):
        raise UnreadableReplyError(f"{value:g} is not within {low:g} to {high:g}", text)
    return value
