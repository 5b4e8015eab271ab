"""The engine of a server, started again when it breaks down, a few times."""

import threading
import time
from collections import deque
from collections.abc import Callable

from onevision.batch import ModelInputs
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.request import Piece, Request
from onevision.generate.sampler import Sampling
from onevision.generate.settings import EngineSettings
from onevision.generate.thread import EngineThread
from onevision.serve.schema.problems import ApiError

MAX_RESTARTS, WITHIN_SECONDS = 3, 600.0
# An engine that is at work and takes no step for so long hangs.
MAX_STEP_SECONDS = 120.0


class Supervisor:
    """One engine at a time. All methods may be called from any thread."""

    def __init__(self, model: Model, settings: EngineSettings) -> None:
        self._model, self._settings = model, settings
        self._failures: deque[float] = deque()
        self.num_restarts = 0
        self._lock = threading.Lock()
        self._thread = self._start()

    @property
    def engine(self) -> Engine:
        """The engine of now."""
        return self._thread.engine

    @property
    def is_alive(self) -> bool:
        """Whether steps are taken."""
        late = time.monotonic() - self._thread.last_step > MAX_STEP_SECONDS
        return self._thread.is_alive and not late

    def submit(
        self,
        prompt: ModelInputs,
        sampling: Sampling,
        *,
        sink: Callable[[Piece], object],
        tenant: str,
        timeout_seconds: float,
    ) -> Request:
        """Take on a request; see `EngineThread.submit`. Raises ApiError without an engine."""
        self.check()
        if not self._thread.is_alive:
            raise ApiError(
                "the engine is being started again", status=503, code="not_ready", retry_after=5
            )
        return self._thread.submit(
            prompt, sampling, sink=sink, tenant=tenant, timeout_seconds=timeout_seconds
        )

    def cancel(self, request: Request) -> None:
        """Stop answering a request."""
        self._thread.cancel(request)

    def check(self) -> None:
        """Start a new engine where the last one broke down, unless that happened too often."""
        now = time.monotonic()
        with self._lock:
            while self._failures and now - self._failures[0] > WITHIN_SECONDS:
                self._failures.popleft()
            if self._thread.failure is not None and len(self._failures) < MAX_RESTARTS:
                self._failures.append(now)
                self.num_restarts += 1
                self._thread = self._start()

    def stop(self) -> None:
        """Take no further step."""
        self._thread.stop()

    def _start(self) -> EngineThread:
        thread = EngineThread(self._model.new_engine(self._settings))
        thread.start()
        return thread
