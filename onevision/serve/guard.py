"""ASGI middleware around all routes: host, origin and API key checks, request ids, logs, counts."""

import asyncio
import ipaddress
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onevision.serve.keys import KeyRing
from onevision.serve.metrics import Metrics
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import LOOPBACK, ServerSettings
from onevision.serve.turns import LoopShares, Timed

logger = logging.getLogger("onevision.serve")

OPEN_ROUTES = ("/health",)
# With several keys, these need one that may see what all of them do.
ADMIN_ROUTES = ("/metrics",)
# Who occupies the event loop, in the scope of a request: its key, or else its address.
OCCUPIER = "onevision.occupier"
# Of the request line and all headers.
MAX_HEADER_BYTES = 32 * 1024
# Of a body that was refused.
LINGER_BYTES, LINGER_SECONDS = 4 * 2**20, 2.0
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def problem_response(problem: ApiError) -> Response:
    """Returns an error as a response with OpenAI's envelope."""
    body = problem.envelope.model_dump_json()
    return Response(
        body, status_code=problem.status, headers=problem.headers, media_type="application/json"
    )


def internal_error(request_id: str) -> ApiError:
    """Returns the error of a request that met a bug."""
    return ApiError(f"internal error; request {request_id}", status=500, code="internal")


class Guard:
    """Passes requests that are allowed on to `app`, and refuses the others."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, *, keys: KeyRing, metrics: Metrics
    ) -> None:
        self.app, self.settings, self.keys, self.metrics = app, settings, keys, metrics
        self.draining = False
        self.num_open = 0  # requests in progress
        self.loop_shares = LoopShares()
        self._hosts = {*LOOPBACK, settings.host.lower(), *map(str.lower, settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, given = time.monotonic(), scope
        # Until a key is known, what occupies the event loop counts for the address.
        given[OCCUPIER] = str((scope.get("client") or ("",))[0])
        scope = {**scope, "request_id": f"req_{secrets.token_hex(12)}", "api_key": ""}

        async def wait() -> None:
            if scope["path"] not in OPEN_ROUTES:
                await self.loop_shares.wait(given[OCCUPIER])

        answer = _Answer(scope, _Unread(scope, receive, wait), send)
        if answer.is_head:  # a GET whose body is not sent
            scope["method"] = "GET"
        self.num_open += 1
        try:
            await Timed(
                self._handle(scope, given, answer, wait),
                lambda seconds: self.loop_shares.charge(given[OCCUPIER], seconds),
            )
        finally:
            self.num_open -= 1
            self._log(scope, answer.status, time.monotonic() - began)

    async def _handle(
        self, scope: Scope, given: Scope, answer: "_Answer", wait: Callable[[], Awaitable[None]]
    ) -> None:
        """Answers a request, when it is its key's turn, whatever happens."""
        receive = answer.body.receive
        try:
            try:
                self._check_access(scope)
                given[OCCUPIER] = scope["api_key"] or given[OCCUPIER]
            finally:
                await wait()
            await self.app(scope, receive, answer.send)
        except ApiError as problem:
            await self._refuse(problem, scope, receive, answer.send)
        except Exception:  # a bug: the log has the traceback, the client only the id
            logger.exception("%s failed", scope["request_id"])
            if not answer.status:
                response = problem_response(internal_error(scope["request_id"]))
                await response(scope, receive, answer.send)

    async def _refuse(self, problem: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_response(problem)
        if problem.code == "invalid_http":  # where the next request begins is not certain
            response.headers["connection"] = "close"
        if problem.status == 401:
            kind = "Bearer" if scope["path"].startswith("/v1/") else 'Basic realm="onevision"'
            response.headers["www-authenticate"] = kind
        await response(scope, receive, send)

    def _check_access(self, scope: Scope) -> None:
        """Raises ApiError if a request is not allowed."""
        headers = Headers(scope=scope)
        _check_framing(headers, scope)
        self._check_host(headers.get("host", ""))
        self._check_origin(headers)
        if scope["path"] not in OPEN_ROUTES:
            scope["api_key"] = self._check_key(headers.get("authorization", ""), path=scope["path"])
            if self.draining and scope["method"] == "POST":
                raise ApiError(
                    "the server is shutting down", status=503, code="shutting_down", retry_after=5
                )

    def _check_host(self, host: str) -> None:
        """Refuses foreign host names, which prevents DNS rebinding."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            name = ""
        if name not in self._hosts and not _is_ip_address(name):
            raise ApiError(
                "this server does not answer to that name; allow it with --allowed-host",
                status=403, code="host_not_allowed",
            )  # fmt: skip

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None or origin in self.settings.allowed_origins:
            return
        try:
            own = urlsplit(origin).netloc.lower()
        except ValueError:  # such as "http://[", which is no origin of anyone
            own = ""
        if not own or own != headers.get("host", "").lower():
            raise ApiError(
                "pages of other origins are not allowed; allow them with --allowed-origin",
                status=403, code="origin_not_allowed",
            )  # fmt: skip

    def _check_key(self, authorization: str, *, path: str) -> str:
        """Returns the hash of the given key. Raises ApiError if it is not valid for a path."""
        name = self.keys.check(authorization)
        if name is None:
            raise ApiError(
                "no valid API key; send Authorization: Bearer <key>",
                status=401, code="invalid_api_key",
            )  # fmt: skip
        if path in ADMIN_ROUTES and not self.keys.may_read_metrics(name):
            raise ApiError(
                "the metrics tell what all keys do; they need a key of --admin-key-file",
                status=403, code="admin_key_required",
            )  # fmt: skip
        return name

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        handler = route.path if route is not None else "other"
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        self.metrics.http.labels(handler, method, str(status or 499)).inc()
        logger.info(
            "%s %s %s %d %.0f ms key=%s body=%d sha256=%s",
            scope["request_id"], method, handler, status or 499, seconds * 1000,
            scope["api_key"][:8] or "-", scope.get("body_bytes", 0), scope.get("body_digest", "-"),
        )  # fmt: skip


class _Answer:
    """Sends an answer with the headers that all answers have."""

    def __init__(self, scope: Scope, body: "_Unread", send: Send) -> None:
        self._request_id, self.body, self._send = scope["request_id"], body, send
        self._began = time.monotonic()
        self.is_head = scope["method"] == "HEAD"
        self.status = 0  # until it begins

    async def send(self, message: Message) -> None:
        """Sends a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        elif self.is_head:
            message = {**message, "body": b""}
        if self.body.is_unread and message["type"] == "http.response.body":
            await self._send({**message, "more_body": True})
            await self.body.discard()
            message = {"type": "http.response.body"}
        await self._send(message)

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["x-request-id"] = self._request_id
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        milliseconds = (time.monotonic() - self._began) * 1000
        headers.setdefault("x-processing-ms", f"{milliseconds:.0f}")
        if self.body.is_unread:  # the rest of it is not read, so no request can follow
            headers["connection"] = "close"


class _Unread:
    """Notes whether a request's body has been read to its end.

    One that was not is read for a moment after the answer: clients that send all before they read
    would otherwise meet a broken connection in place of the answer.
    """

    def __init__(self, scope: Scope, receive: Receive, wait: Callable[[], Awaitable[None]]) -> None:
        headers = Headers(scope=scope)
        self._receive, self._wait = receive, wait
        self.is_unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def receive(self) -> Message:
        """Receives the next part of the request, when it is its key's turn."""
        if self.is_unread:
            await self._wait()
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.is_unread = False
        return message

    async def discard(self) -> None:
        """Reads the rest, within LINGER_BYTES and LINGER_SECONDS."""
        num_bytes = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.is_unread and num_bytes < LINGER_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))
        self.is_unread = False


def _check_framing(headers: Headers, scope: Scope) -> None:
    """Refuses headers that are too long, and a body with two lengths (RFC 9112, section 6.1)."""
    if "content-length" in headers and "transfer-encoding" in headers:
        raise ApiError(
            "content-length and transfer-encoding are both given; send one", code="invalid_http"
        )
    num_bytes = len(scope["path"]) + len(scope.get("query_string", b""))
    num_bytes += sum(len(name) + len(value) + 4 for name, value in headers.raw)
    if num_bytes > MAX_HEADER_BYTES:
        raise ApiError(
            f"the headers have {num_bytes:,} bytes; expected at most {MAX_HEADER_BYTES:,}",
            status=431, code="headers_too_large",
        )  # fmt: skip


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
