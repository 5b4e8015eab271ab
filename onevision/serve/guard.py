"""ASGI middleware around all routes: host, origin and API key checks, request ids, logs, counts."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onevision.serve.metrics import Metrics
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import LOOPBACK, ServerSettings

logger = logging.getLogger("onevision.serve")

OPEN_ROUTES = ("/health",)
# Of the request line and all headers.
MAX_HEADER_BYTES = 32 * 1024
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

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.draining = False
        self.num_open = 0  # requests in progress
        self._keys = [hashlib.sha256(key.encode()).digest() for key in settings.keys]
        self._hosts = {*LOOPBACK, settings.host.lower(), *map(str.lower, settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        request_id = f"req_{secrets.token_hex(12)}"
        is_head = scope["method"] == "HEAD"  # a GET whose body is not sent
        scope = {**scope, "request_id": request_id, "api_key": ""}
        if is_head:
            scope["method"] = "GET"

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("x-processing-ms", f"{(time.monotonic() - began) * 1000:.0f}")
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        self.num_open += 1
        try:
            self._check_access(scope)
            await self.app(scope, receive, send_with_headers)
        except ApiError as problem:
            await self._refuse(problem, scope, receive, send_with_headers)
        except Exception:  # a bug: the log has the traceback, the client only the id
            logger.exception("%s failed", request_id)
            if not status:
                response = problem_response(internal_error(request_id))
                await response(scope, receive, send_with_headers)
        finally:
            self.num_open -= 1
            self._log(scope, status, time.monotonic() - began)

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
            scope["api_key"] = self._check_key(headers.get("authorization", ""))
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

    def _check_key(self, authorization: str) -> str:
        """Returns the hash of the given key; all keys are compared, in constant time."""
        if not self._keys:
            return ""
        given = hashlib.sha256(_key_of(authorization)).digest()
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(matches):
            raise ApiError(
                "no valid API key; send Authorization: Bearer <key>",
                status=401, code="invalid_api_key",
            )  # fmt: skip
        return given.hex()[:32]

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


def _key_of(authorization: str) -> bytes:
    """Returns the key of a Bearer header, or the password of a Basic one, which browsers send."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
