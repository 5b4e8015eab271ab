"""Bytes of a request -> a JSON object, or an error that says why not."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from onevision.serve.schema.problems import ApiError

MAX_DEPTH = 64
Json = dict[str, Any]  # Any: whatever JSON holds


class Out(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="allow")


def parse_object(body: bytes) -> Json:
    """Read an object in UTF-8. Raises ApiError: no NaN, no key twice, no endless depth."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
        )
        if depth_of(value) > MAX_DEPTH:
            raise RecursionError
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
        raise ValueError("a key stands twice in an object")
    return values


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def depth_of(value: Any) -> int:  # Any: see above
    """Return how deep objects and lists are nested in a value; 0 for a number or a string."""
    depth, level = 0, list(_inside([value]))
    while level:
        depth += 1
        level = [inner for outer in level for inner in _inside(outer)]
    return depth


def _inside(outer: Any) -> Iterator[Any]:  # Any: see above
    for inner in outer.values() if isinstance(outer, dict) else outer:
        if isinstance(inner, (dict, list)):
            yield inner
