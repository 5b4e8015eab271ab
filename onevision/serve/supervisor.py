"""Model -> an engine that runs in a thread of its own, restarted a few times if it fails."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from onevision.accelerate.pools import release_pool
from onevision.batch import ModelInputs
from onevision.errors import EngineError
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.request import AnswerDelta, Request
from onevision.generate.sampler import Sampling
from onevision.generate.settings import EngineSettings
from onevision.serve.schema.problems import ApiError

logger = logging.getLogger(__name__)

MAX_RESTARTS, WITHIN_SECONDS = 3, 600.0
# An engine with work that takes no step for so long is stuck.
MAX_STEP_SECONDS = 120.0


class Supervisor:
    """Runs one engine at a time. All methods may be called from any thread."""

    def __init__(self, model: Model, settings: EngineSettings) -> None:
        self._model, self._settings = model, settings
        self._failures: deque[float] = deque()  # when engines failed
        self.num_restarts = 0
        self._lock = threading.Lock()
        self._thread = EngineThread(model.new_engine(settings))

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
        cache_salt: str = "",
        timeout_seconds: float,
    ) -> Request:
        """Passes a request to the engine; see `Engine.submit`. Raises ApiError if none runs.

        `on_delta` is called in the engine's thread. The last delta of each answer has a
        `finish_reason`; if it is "error", `Request.error` has the cause.
        """
        self.check()
        thread = self._thread
        if not thread.is_alive:
            raise ApiError("the engine is restarting", status=503, code="not_ready", retry_after=5)
        request = thread.engine.submit(
            prompt,
            sampling,
            on_delta=on_delta,
            tenant=tenant,
            cache_salt=cache_salt,
            timeout_seconds=timeout_seconds,
        )
        thread.wake()
        return request

    def cancel(self, request: Request) -> None:
        """Cancels a request."""
        self._thread.engine.cancel(request)
        self._thread.wake()

    def check(self) -> None:
        """Starts a new engine if the last one failed, unless too many did."""
        now = time.monotonic()
        with self._lock:
            while self._failures and now - self._failures[0] > WITHIN_SECONDS:
                self._failures.popleft()
            if self._thread.has_failed and len(self._failures) < MAX_RESTARTS:
                self._failures.append(now)
                self.num_restarts += 1
                self._thread = EngineThread(self._model.new_engine(self._settings))

    def limit_tenants(self, *, running: int | None, waiting: int | None) -> None:
        """Sets how many requests of one tenant may run and wait, now and after a restart."""
        with self._lock:
            self._settings = replace(
                self._settings, max_running_per_tenant=running, max_waiting_per_tenant=waiting
            )
            self._thread.engine.scheduler.limit_tenants(running=running, waiting=waiting)

    def stop(self) -> None:
        """Stops the engine after the step that it is taking."""
        self._thread.stop()


class EngineThread:
    """Takes an engine's steps while there is work, and sleeps while there is none.

    An unexpected exception ends the thread, and all requests with an EngineError.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.last_step = time.monotonic()  # a heartbeat
        self.has_failed = False
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it takes steps."""
        return self._thread.is_alive() and not self.has_failed

    def wake(self) -> None:
        """Lets it look for work."""
        self._woken.set()

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Stops after the step that is being taken."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._woken.clear()
                while self.engine.step() and not self._stopping:
                    self.last_step = time.monotonic()
                self.last_step = time.monotonic()
                release_pool()  # for other engines, while this one has no work
                self._woken.wait(timeout=1.0)
        except Exception:  # whatever it is, the callers that wait must hear of it
            self.has_failed = True
            logger.exception("the engine failed")
            self.engine.abandon(EngineError("the engine failed; try again"))
