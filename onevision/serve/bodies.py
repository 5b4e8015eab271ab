"""An HTTP request -> the bytes of its JSON body, within limits of size and time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from onevision.serve.schema.problems import ApiError, client_gone
from onevision.serve.settings import Limits
from onevision.serve.turns import Share


class BodyReader:
    """Reads bodies; all that are held at a time stay within a share of memory, as do a key's."""

    def __init__(self, limits: Limits, held: Share) -> None:
        self._limits, self._held = limits, held

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytearray]:
        """Reads a JSON body, which counts as held until the context ends. Raises ApiError.

        The caller may clear it once it is parsed.
        """
        self._check_headers(request)
        data, num_bytes, key = bytearray(), 0, request.scope["api_key"]
        digest = hashlib.sha256()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for piece in request.stream():
                    self._held.add(key, len(piece))
                    num_bytes += len(piece)
                    data += piece
                    digest.update(piece)
                    if num_bytes > self._limits.body_bytes:
                        raise self._too_large()
            request.scope["body_bytes"] = num_bytes
            request.scope["body_digest"] = digest.hexdigest()[:12]
            yield data
        except TimeoutError as error:
            raise ApiError(
                "the body did not arrive in time", status=408, code="request_timeout"
            ) from error
        except ClientDisconnect as error:
            raise client_gone() from error
        finally:
            self._held.remove(key, num_bytes)

    def _check_headers(self, request: Request) -> None:
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
        if length.isdecimal() and int(length[:20]) > self._limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> ApiError:
        return ApiError(
            f"the body has more than the {self._limits.body_bytes:,} bytes allowed",
            status=413,
            code="request_too_large",
        )
