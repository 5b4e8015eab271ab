"""Bytes of a body -> a JSON object -> a request model; and the bases of all wire models."""

import json
import re
from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from onevision.serve.schema.problems import ApiError, first_problem

MAX_DEPTH = 64
# An escape that may be half of a surrogate pair, which is no character and cannot be written.
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
Json = dict[str, Any]  # Any: whatever JSON holds


class In(BaseModel):
    """A part of a request: values of exactly the right type; unknown fields are kept."""

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)


class Ignored(In):
    """A part of a request whose unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class RequestBody(In):
    """A whole request."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Reads a request. Raises ApiError for the first thing that is wrong."""
        value = parse_object(body)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise first_problem(error, value) from None


class Out(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="allow")


def parse_object(body: bytes) -> Json:
    """Reads a JSON object in UTF-8. Raises ApiError: no NaN, no repeated key, limited depth."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
        )
        if depth_of(value) > MAX_DEPTH:
            raise RecursionError
        if SURROGATE.search(body):
            value = _without_half_pairs(value)
    except RecursionError as error:
        raise _invalid(f"it is nested more than {MAX_DEPTH} deep") from error
    except UnicodeDecodeError as error:
        raise _invalid("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at byte {error.pos}") from error
    except ValueError as error:
        raise _invalid(str(error)[:100]) from error
    if not isinstance(value, dict):
        raise _invalid("it is not an object")
    return value


def _invalid(reason: str) -> ApiError:
    return ApiError(f"the body cannot be read as a JSON object: {reason}", code="invalid_json")


def _unique(pairs: list[tuple[str, Any]]) -> Json:  # Any: see above
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object has a key twice")
    return values


def _without_half_pairs(value: Any) -> Any:  # Any: see above
    """Returns a value with "?" for half surrogate pairs, as the tokenizer reads them."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode(errors="replace"), object_pairs_hook=_unique)
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def depth_of(value: Any) -> int:  # Any: see above
    """Returns how deep objects and lists are nested in a value; 0 for a number or a string."""
    depth, level = 0, list(_containers_in([value]))
    while level:
        depth += 1
        level = [inner for outer in level for inner in _containers_in(outer)]
    return depth


def _containers_in(outer: Any) -> Iterator[Any]:  # Any: see above
    for inner in outer.values() if isinstance(outer, dict) else outer:
        if isinstance(inner, (dict, list)):
            yield inner
