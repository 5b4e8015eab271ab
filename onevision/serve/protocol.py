"""A connection -> requests, by uvicorn's HTTP/1.1, with deadlines in both directions.

    waiting for headers    HEADER_SECONDS, however slowly they come
    between two requests   IDLE_SECONDS
    a body                 `body_seconds` (bodies.py); one that was refused is not read (guard.py)
    an answer              `write_seconds` of waiting for the client to read, in all

Beyond the most connections, the one that has asked nothing for longest makes room for a new one.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from onevision.serve.guard import OCCUPIER
from onevision.serve.schema.problems import ApiError

if TYPE_CHECKING:
    from uvicorn.server import ServerState

HEADER_SECONDS, IDLE_SECONDS = 20.0, 30
# For the last bytes to be sent after a connection was closed on this side.
CLOSE_SECONDS = 10.0


class ServerConfig(uvicorn.Config):
    """uvicorn's settings, and the limits of connections."""

    max_connections: int = 1024
    write_seconds: float = 120.0
    # Told who has occupied the event loop, and for how long.
    charge: Callable[[str, float], None] | None = None


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines; malformed requests get the usual error envelope."""

    def __init__(
        self,
        config: ServerConfig,
        server_state: "ServerState",
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config
        self._deadline: asyncio.TimerHandle | None = None  # of headers
        self._stall: asyncio.TimerHandle | None = None  # of a client that does not read
        self._closing: asyncio.TimerHandle | None = None  # of one that does not take the end
        self._stalled_at, self._stalled_seconds = 0.0, 0.0
        self._idle_since = self.loop.time()

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress, nor are its headers complete."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self.conn.their_state in (h11.IDLE, h11.DONE)

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._update_deadline()
        if len(self.connections) > self._limits.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        began = self.loop.time()
        super().data_received(data)
        if self.scope is not None and self._limits.charge is not None:
            self._limits.charge(str(self.scope.get(OCCUPIER, "")), self.loop.time() - began)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._stall, self._closing):
            if timer is not None:
                timer.cancel()  # or it holds what the connection held
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_at = self.loop.time()
        left = max(0.0, self._limits.write_seconds - self._stalled_seconds)
        self._stall = self.loop.call_later(left, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_seconds += self.loop.time() - self._stalled_at
        if self._stall is not None:
            self._stall.cancel()

    def on_response_complete(self) -> None:
        self._stalled_seconds, self._idle_since = 0.0, self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._close()

    def send_400_response(self, msg: str) -> None:
        self._send_problem(ApiError(msg, code="invalid_http"))

    def _make_room(self) -> None:
        """Closes an idle connection, or else this one.

        One that has asked for nothing goes first, then the one that has been idle for longest: a
        burst of connections does not cut off who returns every now and then.
        """
        idle = [
            one for one in self.connections
            if isinstance(one, BoundedProtocol) and one is not self and one.is_idle
        ]  # fmt: skip
        if idle:
            oldest = min(idle, key=lambda one: (one.cycle is not None, one._idle_since))
            self.connections.discard(oldest)
            oldest.transport.abort()
            return
        self._send_problem(
            ApiError(
                "too many connections; try again later",
                status=503, code="too_many_connections", retry_after=5,
            )
        )  # fmt: skip

    def _send_problem(self, problem: ApiError) -> None:
        """Answers in place of the application, and closes the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = problem.envelope.model_dump_json().encode()
            headers = {"content-type": "application/json", "connection": "close"} | problem.headers
            headers["content-length"] = str(len(body))
            response = h11.Response(status_code=problem.status, headers=list(headers.items()))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._close()

    def _close(self) -> None:
        """Closes the connection, whether or not the client reads what was sent last."""
        self.transport.close()
        if self._closing is None:
            self._closing = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _update_deadline(self) -> None:
        """Starts the timeout when headers are awaited, and cancels it when they are complete."""
        if self.conn.their_state is not h11.IDLE:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._close)
