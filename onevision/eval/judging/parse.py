"""A judge's reply -> numbers, choices or lists. Strict: any other form is an error, not a guess.

Surrounding white space and a code fence around the whole reply are accepted.
"""

import ast
import json
import math
import re
from collections.abc import Sequence

_FENCE = re.compile(r"```(?:\w+)?\s*\n(.*)\n\s*```", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


class UnreadableReplyError(Exception):
    """A reply that does not have the requested form; its message quotes the beginning."""

    def __init__(self, problem: str, text: str) -> None:
        super().__init__(f"{problem}: {' '.join(text.split())[:120]!r}")


def parse_two_grades(text: str) -> tuple[float, float]:
    """Returns two numbers from 1 to 10 on the first line, separated by a space or a comma."""
    first, *_ = text.strip().split("\n")
    words = first.replace(",", " ").split()
    if len(words) != 2:
        raise UnreadableReplyError("the first line is not two numbers", text)
    one, other = (_check_number(word, 1, 10, text) for word in words)
    return one, other


def parse_number(text: str, *, low: float, high: float) -> float:
    """Returns the number that is the whole reply."""
    return _check_number(_strip_fence(text), low, high, text)


def parse_labelled_number(text: str, *, label: str, low: float, high: float) -> float:
    """Returns the number after `label:`, which must occur exactly once."""
    found = re.findall(rf"{re.escape(label)}:\s*\**\s*([+-]?\d+(?:\.\d+)?)", text)
    if len(found) != 1:
        raise UnreadableReplyError(f"{len(found)} lines with {label!r}, expected one", text)
    return _check_number(found[0], low, high, text)


def parse_choice(text: str, choices: Sequence[str]) -> str:
    """Returns the choice that is the whole reply, ignoring case and a final period."""
    reply = _strip_fence(text).rstrip(".").upper()
    for choice in choices:
        if reply == choice.upper():
            return choice
    raise UnreadableReplyError(f"not one of {', '.join(choices)}", text)


def parse_dict(text: str) -> dict[str, object]:
    """Returns a dictionary in Python or JSON syntax."""
    value = _parse_literal(text)
    if not isinstance(value, dict):
        raise UnreadableReplyError("not a dictionary", text)
    return value


def parse_dict_number(text: str, name: str, *, high: float) -> float:
    """Returns the number from 0 to `high` under the key `name` of a dictionary."""
    value = parse_dict(text).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnreadableReplyError(f"no number called {name!r}", text)
    return _check_number(str(value), 0, high, text)


def parse_strings(text: str) -> list[str]:
    """Returns a list of strings in Python or JSON syntax."""
    value = _parse_literal(text)
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise UnreadableReplyError("not a list of strings", text)
    return value


def _parse_literal(text: str) -> object:
    bare = _strip_fence(text)
    try:
        return json.loads(bare)
    except ValueError:
        pass
    except RecursionError as error:
        raise UnreadableReplyError("nested too deeply", text) from error
    try:
        return ast.literal_eval(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UnreadableReplyError("neither Python nor JSON syntax", text) from error


def _strip_fence(text: str) -> str:
    fenced = _FENCE.fullmatch(text.strip())
    return (fenced[1] if fenced else text).strip()


def _check_number(word: str, low: float, high: float, text: str) -> float:
    if not _NUMBER.fullmatch(word):
        raise UnreadableReplyError(f"{word[:20]!r} is not a number", text)
    value = float(word)
    if not (math.isfinite(value) and low <= value <= high):
        raise UnreadableReplyError(f"{value:g} is not between {low:g} and {high:g}", text)
    return value
