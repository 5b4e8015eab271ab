"""A question that is ready -> the pieces of its answers, from the engine's thread to the loop."""

import asyncio
from collections.abc import AsyncIterator

from onevision.conversation import Usage
from onevision.generate.request import Piece, Request
from onevision.inputs.processor import usage
from onevision.serve.metrics import Metrics
from onevision.serve.preparing import Prepared
from onevision.serve.schema.problems import ApiError, problem_of
from onevision.serve.supervisor import Supervisor
from onevision.serve.threads import in_thread


class Answering:
    """A request that is being answered."""

    def __init__(
        self,
        prepared: Prepared,
        *,
        supervisor: Supervisor,
        metrics: Metrics,
        request_seconds: float,
    ) -> None:
        self._prepared, self._supervisor, self._metrics = prepared, supervisor, metrics
        self._request_seconds = request_seconds
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self._left = False
        self.request: Request | None = None

    async def submit(self) -> None:
        """Hand the request to the engine. Raises ApiError."""
        prepared = self._prepared

        def submit() -> None:
            self.request = self._supervisor.submit(
                prepared.prompt,
                prepared.sampling,
                sink=self._sink,
                tenant=prepared.tenant,
                timeout_seconds=self._request_seconds,
            )
            if self._left:
                self.leave()

        try:
            await in_thread(submit)
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """Stop answering, wherever it stands; harmless once all is said."""
        self._left = True
        if self.request is not None:
            self._supervisor.cancel(self.request)

    async def pieces(self, *, heartbeat_seconds: float = 15.0) -> AsyncIterator[Piece | None]:
        """Give the pieces as they come, None where nothing came for a while. Raises ApiError.

        Whoever stops listening cancels the request.
        """
        assert self.request is not None, "submit() comes first"
        meter = self._metrics.meter(self.request)
        open_answers = self.request.sampling.num_answers
        try:
            while open_answers:
                try:
                    piece = await asyncio.wait_for(self._pieces.get(), heartbeat_seconds)
                except TimeoutError:
                    yield None
                    continue
                meter.piece(piece)
                if piece.finish_reason in ("error", "cancelled"):
                    raise self._failure()
                open_answers -= piece.finish_reason is not None
                yield piece
        finally:
            if open_answers:
                self.leave()
            meter.end()

    async def finish(self) -> Request:
        """Wait for all answers. Raises ApiError."""
        async for _ in self.pieces():
            pass
        assert self.request is not None, "submitted"
        return self.request

    @property
    def usage(self) -> Usage:
        """What the answers cost so far."""
        assert self.request is not None, "submitted"
        tokens = sum(len(answer.ids) for answer in self.request.answers)
        return usage(self._prepared.prompt, completion_tokens=tokens)

    def _sink(self, piece: Piece) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    def _failure(self) -> ApiError:
        assert self.request is not None, "submitted"
        if self.request.error is None:
            return ApiError("the server is shutting down", status=503, code="shutting_down")
        return problem_of(self.request.error)
