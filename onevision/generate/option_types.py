"""The types of the sampling options, checked where a caller gives them."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeGuard

from onevision.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OptionType:
    """What an option's value may be, in words and as a test."""

    words: str
    accepts: Callable[[object], bool]


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are(items: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(items, value))


def _are_biases(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_whole(token_id) and token_id >= 0 and _is_number(bias)
        for token_id, bias in value.items()
    )


WHOLE = OptionType(words="a whole number", accepts=_is_whole)
NUMBER = OptionType(words="a number", accepts=_is_number)
TEXT = OptionType(words="text", accepts=_is_text)
TEXTS = OptionType(words="a list of strings", accepts=_are(_is_text))
IDS = OptionType(words="a list of token ids", accepts=_are(_is_whole))
BIASES = OptionType(words="token ids with a number each", accepts=_are_biases)
# By field of `Sampling`.
OPTION_TYPES: Mapping[str, OptionType] = {
    **dict.fromkeys(
        ("max_new_tokens", "min_new_tokens", "top_k", "logprobs", "num_answers", "seed"), WHOLE
    ),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty",
         "frequency_penalty"),
        NUMBER,
    ),
    **dict.fromkeys(("end_texts", "stop", "choices"), TEXTS),
    **dict.fromkeys(("regex", "json_schema"), TEXT),
    "end_ids": IDS,
    "logit_bias": BIASES,
}  # fmt: skip
MAY_BE_NONE = ("logprobs", "seed", "regex", "json_schema")


def to_plain(value: object) -> object:
    """Returns a number of NumPy as Python's own, and anything else as it is."""
    if _is_whole(value):
        return operator.index(value)
    return float(value) if _is_number(value) else value


def check_ids(options: Mapping[str, Any], *, num_ids: int) -> None:
    """Refuses sampling options with a token that the model does not have. Raises InputError."""
    for name in ("logit_bias", "end_ids"):
        for token_id in options[name]:
            if not 0 <= token_id < num_ids:
                raise InputError(
                    f"{name} names token {token_id}; expected 0 to {num_ids - 1}, the model's "
                    "vocabulary"
                )


def check_types(options: Mapping[str, object]) -> None:
    """Refuses sampling options of another type than theirs. Raises InputError."""
    for name, kind in OPTION_TYPES.items():
        value = options[name]
        if not (kind.accepts(value) or (value is None and name in MAY_BE_NONE)):
            raise InputError(f"{name} is {value!r:.60}; expected {kind.words}")
