"""Bytes of a body -> a request model; and the bases of all wire models."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from onevision.serve.schema.json_text import parse_object
from onevision.serve.schema.problems import first_problem
from onevision.serve.settings import Limits


class In(BaseModel):
    """A part of a request: values of exactly the right type; `fields.py` judges unknown fields."""

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)

    # Unknown fields without effect on an answer; the second are named in x-ignored-params.
    harmless: ClassVar[frozenset[str]] = frozenset()
    ignored: ClassVar[frozenset[str]] = frozenset()


class RequestBody(In):
    """A whole request."""

    # What to use instead of fields of other routes and servers.
    instead: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, body: bytes | bytearray, limits: Limits) -> Self:
        """Reads a request. Raises ApiError for the first thing that is wrong."""
        value = parse_object(body, most_bytes=limits.json_bytes, most_items=limits.json_items)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise first_problem(error, value) from None


class Out(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="allow")
