"""PreparedRequest -> the deltas of its answers, from the engine's thread to the event loop."""

import asyncio
from collections.abc import AsyncIterator

from onevision.batch import usage
from onevision.conversation import Usage
from onevision.generate.request import AnswerDelta, Request
from onevision.serve.metrics import Metrics
from onevision.serve.preparing import PreparedRequest
from onevision.serve.schema.problems import ApiError, problem_of
from onevision.serve.supervisor import Supervisor
from onevision.serve.threads import in_thread


class AnswerStream:
    """The answers to one request as they are generated."""

    def __init__(
        self,
        prepared: PreparedRequest,
        *,
        supervisor: Supervisor,
        metrics: Metrics,
        request_seconds: float,
    ) -> None:
        self._prepared, self._supervisor, self._metrics = prepared, supervisor, metrics
        self._request_seconds = request_seconds
        self._loop = asyncio.get_running_loop()
        self._deltas: asyncio.Queue[AnswerDelta] = asyncio.Queue()
        self._cancelled = False
        self._request: Request | None = None

    @property
    def request(self) -> Request:
        """The engine's request."""
        assert self._request is not None, "submit() comes first"
        return self._request

    @property
    def usage(self) -> Usage:
        """Tokens of the prompt and of all answers so far."""
        tokens = sum(len(answer.ids) for answer in self.request.answers)
        return usage(self._prepared.prompt, completion_tokens=tokens)

    async def submit(self) -> None:
        """Passes the request to the engine. Raises ApiError."""
        prepared = self._prepared

        def submit() -> None:
            self._request = self._supervisor.submit(
                prepared.prompt,
                prepared.sampling,
                on_delta=self._put,
                tenant=prepared.tenant,
                cache_salt=prepared.cache_salt,
                timeout_seconds=self._request_seconds,
            )
            if self._cancelled:
                self.cancel()

        try:
            await in_thread(submit)
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancels generation, whatever its state; has no effect once the answers are complete."""
        self._cancelled = True
        if self._request is not None:
            self._supervisor.cancel(self._request)

    async def deltas(self, *, heartbeat_seconds: float = 15.0) -> AsyncIterator[AnswerDelta | None]:
        """Yields deltas as they come, and None after `heartbeat_seconds` without one.

        Leaving the loop early cancels the request. Raises ApiError.
        """
        meter = self._metrics.meter(self.request)
        num_open = self.request.sampling.num_answers
        try:
            while num_open:
                try:
                    delta = await asyncio.wait_for(self._deltas.get(), heartbeat_seconds)
                except TimeoutError:
                    yield None
                    continue
                meter.observe(delta)
                if delta.finish_reason in ("error", "cancelled"):
                    raise self._failure()
                num_open -= delta.finish_reason is not None
                yield delta
        finally:
            if num_open:
                self.cancel()
            meter.end()

    async def finish(self) -> Request:
        """Waits for all answers. Raises ApiError."""
        async for _ in self.deltas():
            pass
        return self.request

    def _put(self, delta: AnswerDelta) -> None:
        """Passes a delta to the event loop; called in the engine's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deltas.put_nowait, delta)

    def _failure(self) -> ApiError:
        if self.request.error is None:
            return ApiError("the server is shutting down", status=503, code="shutting_down")
        return problem_of(self.request.error)
