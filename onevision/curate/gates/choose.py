"""Texts such as "length=20-400" -> gates."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onevision.curate.gates.gate import Gate
from onevision.curate.gates.rating import HIGHEST, RatingGate
from onevision.curate.gates.text import (
    DuplicatesGate,
    LanguageGate,
    LeaksGate,
    LengthGate,
    WordsGate,
    open_others,
    read_words,
)
from onevision.errors import InputError
from onevision.eval.judging.judge import Judge
from onevision.values import name_closest

LANGUAGES = ("en", "zh")
RATING = RatingGate.name


def parse_gates(texts: Sequence[str], *, judge: Callable[[], Judge] | None = None) -> list[Gate]:
    """Returns the gates that texts name, in their order; `judge` opens the one that rates.

    Raises InputError, DataError, JudgeError.
    """
    if not texts:
        raise InputError(f"no --gate is given; expected some of {', '.join(USAGE)}")
    gates: list[Gate] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in USAGE:
            raise InputError(f"no gate is named {name!r}{name_closest(name, USAGE)}")
        if not value and (equals or name != "duplicates"):
            raise InputError(f"--gate {name} lacks its value; expected {USAGE[name]}")
        gates.append(_rating(value, judge) if name == RATING else MAKERS[name](value))
    if judge is not None and not any(gate.name == RATING for gate in gates):
        raise InputError("--judge has no effect without --gate rating=3; leave it out")
    return gates


def _rating(value: str, judge: Callable[[], Judge] | None) -> Gate:
    if not re.fullmatch(r"[1-5](\.\d)?", value) or float(value) > HIGHEST:
        raise InputError(f"--gate rating is {value!r}; expected 1 to 5, as in rating=3")
    if judge is None:
        raise InputError("--gate rating needs a model that judges; give --judge MODEL or URL")
    return RatingGate(float(value), judge())


def _length(value: str) -> Gate:
    match = re.fullmatch(r"(\d{1,7})-(\d{1,7})", value)
    if match is None or int(match[1]) > int(match[2]):
        raise InputError(f"--gate length is {value!r}; expected two numbers, as in length=20-400")
    return LengthGate(int(match[1]), int(match[2]))


def _language(value: str) -> Gate:
    if value not in LANGUAGES:
        raise InputError(f"--gate language is {value!r}; expected {' or '.join(LANGUAGES)}")
    return LanguageGate(value)


def _words(value: str) -> Gate:
    return WordsGate(read_words(Path(value)))


def _duplicates(value: str) -> Gate:
    return DuplicatesGate(open_others(Path(value)) if value else None)


def _leaks(value: str) -> Gate:
    return LeaksGate(open_others(Path(value)))


def _blind(value: str) -> Gate:
    from onevision.curate.gates.blind import BlindGate  # it imports torch
    from onevision.generate.answer import load

    return BlindGate(load(value))


MAKERS: Mapping[str, Callable[[str], Gate]] = {
    "length": _length,
    "language": _language,
    "words": _words,
    "duplicates": _duplicates,
    "leaks": _leaks,
    "blind": _blind,
}
USAGE: Mapping[str, str] = {
    "length": "length=20-400",
    "language": "language=en",
    "words": "words=FILE",
    "duplicates": "duplicates, or duplicates=DATA",
    "leaks": "leaks=DATA",
    "blind": "blind=MODEL",
    RATING: "rating=3",
}
