"""Model -> an engine in a thread, restarted a few times if it fails."""

import threading
import time
from collections import deque
from collections.abc import Callable

from onevision.batch import ModelInputs
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.request import AnswerDelta, Request
from onevision.generate.sampler import Sampling
from onevision.generate.settings import EngineSettings
from onevision.generate.thread import EngineThread
from onevision.serve.schema.problems import ApiError

MAX_RESTARTS, WITHIN_SECONDS = 3, 600.0
# An engine with work that takes no step for so long is stuck.
MAX_STEP_SECONDS = 120.0


class Supervisor:
    """Runs one engine at a time. All methods may be called from any thread."""

    def __init__(self, model: Model, settings: EngineSettings) -> None:
        self._model, self._settings = model, settings
        self._failures: deque[float] = deque()
        self.num_restarts = 0
        self._lock = threading.Lock()
        self._thread = self._start()

    @property
    def engine(self) -> Engine:
        """The current engine."""
        return self._thread.engine

    @property
    def is_alive(self) -> bool:
        """Whether the engine takes steps."""
        late = time.monotonic() - self._thread.last_step > MAX_STEP_SECONDS
        return self._thread.is_alive and not late

    def submit(
        self,
        prompt: ModelInputs,
        sampling: Sampling,
        *,
        on_delta: Callable[[AnswerDelta], object],
        tenant: str,
        timeout_seconds: float,
    ) -> Request:
        """Accepts a request; see `EngineThread.submit`. Raises ApiError if no engine runs."""
        self.check()
        if not self._thread.is_alive:
            raise ApiError(
                "the engine is being started again", status=503, code="not_ready", retry_after=5
            )
        return self._thread.submit(
            prompt, sampling, on_delta=on_delta, tenant=tenant, timeout_seconds=timeout_seconds
        )

    def cancel(self, request: Request) -> None:
        """Cancels a request."""
        self._thread.cancel(request)

    def check(self) -> None:
        """Starts a new engine if the last one failed, unless too many did."""
        now = time.monotonic()
        with self._lock:
            while self._failures and now - self._failures[0] > WITHIN_SECONDS:
                self._failures.popleft()
            if self._thread.failure is not None and len(self._failures) < MAX_RESTARTS:
                self._failures.append(now)
                self.num_restarts += 1
                self._thread = self._start()

    def stop(self) -> None:
        """Stops the engine."""
        self._thread.stop()

    def _start(self) -> EngineThread:
        thread = EngineThread(self._model.new_engine(self._settings))
        thread.start()
        return thread
