"""Service -> a server on a socket: uvicorn with header timeouts and a shutdown that drains."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from types import FrameType

import h11
import uvicorn
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from onevision.serve.app import create_app
from onevision.serve.guard import MAX_HEADER_BYTES, Guard, problem_response
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service

logger = logging.getLogger("onevision.serve")
# Time for the headers of a request, and between two requests of a connection.
HEADER_SECONDS, IDLE_SECONDS = 20.0, 30


def serve(service: Service) -> None:
    """Serves until SIGINT or SIGTERM; then finishes requests in progress and returns."""
    settings = service.settings
    guard = create_app(service)
    config = uvicorn.Config(
        add_cors(guard, settings.allowed_origins),
        host=settings.host,
        port=settings.port,
        http=HeaderTimeoutProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    try:
        DrainingServer(config, guard, settings.drain_seconds).run()
    finally:
        service.close()


def add_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Returns `app` with the CORS headers that let pages of these origins use it."""
    if not origins:
        return app
    return Cors(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # OpenAI's client sends a dozen of them
        expose_headers=("x-request-id", "x-ignored-params", "retry-after"),
    )


class Cors(CORSMiddleware):
    """CORS middleware whose refusals have the same envelope as all other errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answers the request that a browser sends before the real one."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        reason = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        problem = ApiError(
            f"pages of other origins are not allowed ({reason}); allow them with --allowed-origin",
            status=403, code="origin_not_allowed",
        )  # fmt: skip
        return problem_response(problem)


class DrainingServer(uvicorn.Server):
    """A server that exits when all requests in progress are answered, or after `drain_seconds`."""

    def __init__(self, config: uvicorn.Config, guard: Guard, drain_seconds: float) -> None:
        super().__init__(config)
        self._guard, self._drain_seconds = guard, drain_seconds
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._guard.draining:  # the second signal
            self.should_exit = self.force_exit = True
            return
        self._guard.draining = True
        logger.info(
            "%s: refusing new requests; finishing those in progress", signal.Signals(sig).name
        )
        self._draining = asyncio.get_event_loop().create_task(self._drain())

    async def _drain(self) -> None:
        for _ in range(int(self._drain_seconds * 10)):
            if not self._guard.num_open:
                break
            await asyncio.sleep(0.1)
        self.force_exit = bool(self._guard.num_open)
        self.should_exit = True


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a timeout for headers; malformed requests get the usual error envelope."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._update_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        problem = ApiError(msg, code="invalid_http")
        body = problem.envelope.model_dump_json().encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _update_deadline(self) -> None:
        """Starts the timeout when headers are awaited, and cancels it when they are complete."""
        if self.conn.their_state is not h11.IDLE:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)
