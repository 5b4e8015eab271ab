"""Service -> a server on a socket: uvicorn within the system's limits.

SIGTERM lets answers end; SIGHUP reads the API keys again.
"""

import asyncio
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from onevision.accelerate.pools import release_pool
from onevision.errors import EngineError, InputError
from onevision.inputs.confinement import hide_process
from onevision.serve.app import create_app
from onevision.serve.guard import MAX_HEADER_BYTES, Guard, problem_response
from onevision.serve.heap import HeapTrimmer, freeze_objects
from onevision.serve.protocol import IDLE_SECONDS, BoundedProtocol, ServerConfig
from onevision.serve.schema.problems import ApiError
from onevision.serve.service import Service

logger = logging.getLogger("onevision.serve")
# After draining, for what holds on to the process; then it ends all the same.
END_SECONDS = 10.0
# Open files beside connections: decoders that are replaced, media that are fetched.
SPARE_FILES = 32
MAX_FILES = 65_536
MAX_BACKLOG = 256
# Between two log lines that say that no more connections can be accepted.
REPEAT_SECONDS = 60.0


def serve(service: Service) -> None:
    """Serves until SIGINT or SIGTERM; then finishes requests in progress and returns.

    Raises EngineError if it ends because a device of several is lost.
    """
    settings = service.settings
    hide_process()  # a decoder or program of the same user cannot read our memory
    threading.Thread(target=service.sandbox.log_confinement, daemon=True).start()
    guard = create_app(service)
    max_connections, backlog = find_room(settings.limits.connections)
    config = ServerConfig(
        add_cors(guard, settings.allowed_origins),
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        backlog=backlog,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    config.max_connections = max_connections
    config.write_seconds = settings.limits.write_seconds
    config.charge = guard.loop_shares.charge
    leader = None if service.model.parallel is None else service.model.parallel.leader
    if leader is not None:
        leader.on_loss(lambda _: os.kill(os.getpid(), signal.SIGTERM))
    release_pool()  # from here on, engines compute, in threads of their own
    freeze_objects()
    trimmer = HeapTrimmer()
    trimmer.start()
    try:
        DrainingServer(config, guard, service).run()
    finally:
        trimmer.stop()
        problem = "" if leader is None else leader.problem
        service.close()
    if problem:
        raise EngineError(problem)


def find_room(most: int) -> tuple[int, int]:
    """Returns how many connections may be open, and how many may wait to be accepted.

    Raises the limit of open files as far as the system allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    opened = Path("/proc/self/fd")
    used = sum(1 for _ in opened.iterdir()) if opened.exists() else SPARE_FILES
    room = MAX_FILES if soft == resource.RLIM_INFINITY else soft - used - SPARE_FILES
    backlog = max(2, min(MAX_BACKLOG, room // 4))
    connections = max(2, min(most, room - backlog))
    if connections < most:
        logger.warning(
            "%d open files are allowed, so %d connections instead of %d; raise it by ulimit -n",
            soft, connections, most,
        )  # fmt: skip
    return connections, backlog


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

    def __init__(self, config: uvicorn.Config, guard: Guard, service: Service) -> None:
        super().__init__(config)
        self._guard, self._service = guard, service
        self._drain_seconds = service.settings.drain_seconds
        self._draining: asyncio.Task[None] | None = None
        self._told_at = -REPEAT_SECONDS

    async def serve(self, sockets: Any = None) -> None:  # Any: uvicorn's own sockets
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._log_fault)
        loop.add_signal_handler(signal.SIGHUP, self._reload_keys)
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._guard.draining:  # the second signal
            self.should_exit = self.force_exit = True
            return
        self._guard.draining = True
        self._end_for_sure()
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

    def _end_for_sure(self) -> None:
        """Ends the process if anything still holds it long after draining."""

        def end() -> None:
            logger.error("the server did not end by itself; ending it now")
            os._exit(1)

        timer = threading.Timer(self._drain_seconds + END_SECONDS, end)
        timer.daemon = True
        timer.start()

    def _reload_keys(self) -> None:
        try:
            self._service.reload_keys()
        except InputError as error:
            logger.error("SIGHUP: the keys stay as they were: %s", error)
            return
        logger.info("SIGHUP: read the API keys again")

    def _log_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs what the event loop meets; once a minute that no connection can be accepted."""
        if "accept" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._told_at >= REPEAT_SECONDS:
            self._told_at = time.monotonic()
            logger.error("no more connections can be accepted (%s)", context.get("exception"))
