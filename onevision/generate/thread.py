"""An engine -> one that runs by itself, in a thread of its own: for servers."""

import logging
import threading
import time
from collections.abc import Callable

from onevision.batch import ModelInputs
from onevision.errors import EngineError
from onevision.generate.engine import Engine
from onevision.generate.request import AnswerDelta, Request
from onevision.generate.sampler import Sampling

logger = logging.getLogger(__name__)


class EngineThread:
    """Takes steps while there is work, and sleeps while there is none.

    An unexpected exception ends the thread, and all its requests with an EngineError.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.last_step = time.monotonic()  # the heartbeat
        self.failure: BaseException | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Starts taking steps."""
        self._thread.start()

    def stop(self, *, timeout_seconds: float = 10.0) -> None:
        """Stops after the step that is being taken."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_seconds)

    @property
    def is_alive(self) -> bool:
        """Whether it takes steps."""
        return self._thread.is_alive() and self.failure is None

    def submit(
        self,
        prompt: ModelInputs,
        sampling: Sampling,
        *,
        on_delta: Callable[[AnswerDelta], object],
        tenant: str = "",
        timeout_seconds: float | None = None,
    ) -> Request:
        """Accepts a request; see `Engine.submit`. `on_delta` is called in the engine's thread.

        The last delta of each answer has a `finish_reason`; if it is "error", `Request.error` has
        the cause.
        """
        request = self.engine.submit(
            prompt, sampling, on_delta=on_delta, tenant=tenant, timeout_seconds=timeout_seconds
        )
        self._wake.set()
        return request

    def cancel(self, request: Request) -> None:
        """Cancels a request; see `Engine.cancel`."""
        self.engine.cancel(request)
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                while self.engine.step() and not self._stopping:
                    self.last_step = time.monotonic()
                self.last_step = time.monotonic()
                self._wake.wait(timeout=1.0)
        except Exception as failure:  # whatever it is, the callers that wait must hear of it
            self.failure = failure
            logger.exception("the engine broke down")
            self.engine.abandon(EngineError("the engine broke down; ask again"))
