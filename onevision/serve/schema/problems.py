"""Errors -> a status and OpenAI's envelope {"error": {message, type, param, code}}."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from onevision.errors import (
    CapacityError,
    ContextLengthError,
    DeadlineError,
    DecodersBusyError,
    InputError,
    MediaError,
    MediaFault,
    OneVisionError,
    QueueFullError,
)

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
         429: "rate_limit_error"}  # fmt: skip
# OpenAI's codes for faults of an image, and similar ones for a video.
MEDIA_CODES: dict[MediaFault, tuple[str, str]] = {
    "source": ("invalid_image", "invalid_video"),
    "empty": ("empty_image_file", "empty_video_file"),
    "format": ("unsupported_image_media_type", "unsupported_video_format"),
    "codec": ("unsupported_image_media_type", "unsupported_video_codec"),
    "no_stream": ("invalid_image", "no_video_stream"),
    "mode": ("invalid_image_mode", "invalid_video"),
    "damaged": ("image_parse_error", "invalid_video"),
    "crashed": ("image_parse_error", "video_decode_failed"),
    "too_slow": ("image_parse_error", "video_decode_failed"),
    "too_large": ("image_too_large", "video_too_large"),
    "too_long": ("image_too_large", "video_too_long"),
}


# The package's errors, subclasses first.
KINDS = {
    ContextLengthError: (400, "context_length_exceeded"),
    CapacityError: (400, "capacity_exceeded"),
    InputError: (400, "invalid_value"),
    QueueFullError: (429, "queue_full"),
    DecodersBusyError: (503, "decoders_busy"),
    DeadlineError: (504, "timeout"),
}


class ErrorBody(BaseModel):
    """The fault, for people (message) and for programs (code, param)."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorBody


class ApiError(Exception):
    """A request that is refused or has failed."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "invalid_value",
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param
        self.retry_after = retry_after

    @property
    def envelope(self) -> ErrorEnvelope:
        """The response's body."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = TYPES.get(self.status, kind)
        return ErrorEnvelope(
            error=ErrorBody(message=self.message, type=kind, param=self.param, code=self.code)
        )

    @property
    def headers(self) -> dict[str, str]:
        """Headers that tell clients whether and when to retry."""
        if self.retry_after is not None:
            return {"retry-after": str(self.retry_after)}
        return {"x-should-retry": "false"} if self.status >= 500 else {}


def client_gone() -> ApiError:
    """Returns the error of a client that disconnected: it shows in the log and the metrics."""
    return ApiError("the client disconnected", status=499, code="client_gone")


def problem_of(
    error: OneVisionError, *, params: Sequence[str] = (), video: bool = False
) -> ApiError:
    """Returns the ApiError for an error of the package.

    `params` name the media of the request in order; `video` is whether the faulty one is a video.
    Messages of decoders are not passed on: some have contained memory addresses.
    """
    if isinstance(error, MediaError):
        param = params[error.place] if error.place is not None else None
        message = str(error)
        if error.fault == "damaged":
            message = "the file is damaged, truncated or not of its stated type; encode it again"
        return ApiError(message, code=MEDIA_CODES[error.fault][video], param=param)
    for kind, (status, code) in KINDS.items():
        if isinstance(error, kind):
            retry_after = {429: 1, 503: 5}.get(status)
            param = "messages" if kind in (ContextLengthError, CapacityError) else None
            return ApiError(
                str(error), status=status, code=code, param=param, retry_after=retry_after
            )
    return ApiError("the answer failed; try again", status=500, code="engine_error")


def first_problem(error: ValidationError, value: Any) -> ApiError:  # Any: whatever JSON held
    """Returns the ApiError for a request that does not validate: its most deeply nested fault."""
    faults = [(_path(fault["loc"], value), fault) for fault in error.errors(include_url=False)]
    path, fault = max(faults, key=lambda found: len(found[0]))
    param = _format_path(path)
    if fault["type"] == "missing":
        return ApiError(f"{param} is missing", code="missing_field", param=param)
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        expected = fault.get("ctx", {}).get("expected_tags", "")
        hint = f"; expected one of {expected}" if expected else ""
        code = "unsupported_content_type" if "content" in path else "invalid_value"
        return ApiError(f"{param}.type is not known{hint}", code=code, param=f"{param}.type")
    if fault["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return ApiError(f"{param or 'the body'}: expected an object", param=param)
    message = fault["msg"].removeprefix("Value error, ")
    message = message.removeprefix("Input should be ").removeprefix("Field should be ")
    return ApiError(f"{param or 'the body'}: expected {message}", param=param)


def _path(loc: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:  # Any: see above
    """Keeps the steps that exist in the value: pydantic adds names of union members."""
    path: list[int | str] = []
    for number, step in enumerate(loc):
        following = loc[number + 1 : number + 2]
        is_tag = isinstance(value, dict) and value.get("type") == step  # of a union, or a field
        if is_tag and following and following[0] in value:
            continue
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]
            path.append(step)
        elif number == len(loc) - 1 and isinstance(value, dict) and isinstance(step, str):
            path.append(step)  # a field that is missing
    return tuple(path)


def _format_path(path: Sequence[int | str]) -> str | None:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:80]}" for step in path)
    return text.removeprefix(".") or None
