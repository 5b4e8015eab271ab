"""A service on a socket: uvicorn with deadlines for headers, and a shutdown that drains."""

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
from onevision.serve.guard import Guard, problem_response
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service

logger = logging.getLogger("onevision.serve")
# For the headers of a request to come, and between requests.
HEADER_SECONDS, IDLE_SECONDS = 20.0, 30
MAX_HEADER_BYTES = 32 * 1024


def serve(service: Service) -> None:
    """Answer until a signal comes; then take on nothing, finish what has begun, and return."""
    settings = service.settings
    guard = create_app(service)
    config = uvicorn.Config(
        with_origins(guard, settings.allowed_origins),
        host=settings.host,
        port=settings.port,
        http=PatientProtocol,
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


def with_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return `app` as pages of these origins may ask it: their browsers want to be told so."""
    if not origins:
        return app
    return Origins(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # OpenAI's client sends a dozen of its own
        expose_headers=("x-request-id", "x-ignored-params", "retry-after"),
    )


class Origins(CORSMiddleware):
    """Tells browsers what pages of other origins may do, and refuses in our words."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks before it sends."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        said = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        problem = ApiError(
            f"pages of other origins may not ask so ({said}); allow them with --allowed-origin",
            status=403, code="origin_not_allowed",
        )  # fmt: skip
        return problem_response(problem)


class DrainingServer(uvicorn.Server):
    """Ends once the requests that have begun are answered, or after a while."""

    def __init__(self, config: uvicorn.Config, guard: Guard, drain_seconds: float) -> None:
        super().__init__(config)
        self._guard, self._drain_seconds = guard, drain_seconds
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._guard.draining:  # the second signal
            self.should_exit = self.force_exit = True
            return
        self._guard.draining = True
        logger.info("%s: no new questions; waiting for answers", signal.Signals(sig).name)
        self._draining = asyncio.get_event_loop().create_task(self._drain())

    async def _drain(self) -> None:
        for _ in range(int(self._drain_seconds * 10)):
            if not self._guard.num_open:
                break
            await asyncio.sleep(0.1)
        self.force_exit = bool(self._guard.num_open)
        self.should_exit = True


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for headers, but not for ever, and refuses in our words."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

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

    def _wait(self) -> None:
        """Begin to wait where a request is expected or half there; stop once it is."""
        if self.conn.their_state is not h11.IDLE:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)
