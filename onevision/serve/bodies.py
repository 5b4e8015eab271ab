"""An HTTP request -> the bytes of its JSON body, within limits of size and time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from onevision.serve.schema.problems import ApiError, client_gone
from onevision.serve.settings import Limits


class BodyReader:
    """Reads bodies; all that are held at a time stay within `limits.bodies_bytes`."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._held = limits, 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Reads a JSON body, which counts as held until the context ends. Raises ApiError."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(
                "content-type: expected application/json", status=415, code="unsupported_media_type"
            )
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding != "identity":
            raise ApiError(
                f"content-encoding {coding[:40]!r} is not read here; send the body as it is",
                status=415, code="unsupported_media_type",
            )  # fmt: skip
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.body_bytes:
            raise self._too_large()
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for piece in request.stream():
                    self._hold(len(piece))
                    data += piece
                    if len(data) > self._limits.body_bytes:
                        raise self._too_large()
            request.scope["body_bytes"] = len(data)
            request.scope["body_digest"] = hashlib.sha256(data).hexdigest()[:12]
            yield bytes(data)
        except TimeoutError as error:
            raise ApiError(
                "the body did not arrive in time", status=408, code="request_timeout"
            ) from error
        except ClientDisconnect as error:
            raise client_gone() from error
        finally:
            self._held -= len(data)

    def _hold(self, num_bytes: int) -> None:
        if self._held + num_bytes > self._limits.bodies_bytes:
            raise ApiError(
                "too many bytes are being read; try again later",
                status=429, code="queue_full", retry_after=2,
            )  # fmt: skip
        self._held += num_bytes

    def _too_large(self) -> ApiError:
        return ApiError(
            f"the body has more than the {self._limits.body_bytes:,} bytes allowed",
            status=413,
            code="request_too_large",
        )
