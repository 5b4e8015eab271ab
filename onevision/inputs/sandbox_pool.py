"""SandboxSettings -> confined workers, kept ready; requests wait for one, for a bounded time.

A thread keeps `num_workers` and a few spare ones alive. A worker that cannot be started (no file
descriptor, no process, no memory) leaves a gap that is filled when it can be; meanwhile waiting
ends with DecodersBusyError.
"""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from onevision.errors import DecodersBusyError
from onevision.inputs.sandbox_worker import PipeMessage, SandboxSettings, receive_message
from onevision.inputs.zygote import Zygote

logger = logging.getLogger(__name__)

CONFINE_SECONDS = 10.0  # in which a new worker must be confined
POLL_SECONDS = 0.2  # after which a waiting request looks whether it was cancelled
RETRY_SECONDS = 1.0  # after which a failed start is tried again
HOPELESS_SECONDS = 5.0  # to wait at most if there is no worker and the last start failed


@dataclass(eq=False)
class Worker:
    """A worker process and our end of its pipe."""

    process_id: int
    pipe: Connection
    layers: PipeMessage
    num_jobs: int = 0
    is_lost: bool = False
    # Whether we killed it, for a deadline or a client that left.
    is_killed: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether an idle worker is gone: it never speaks unasked, so it is the end that we see."""
        try:
            return self.pipe.poll()
        except OSError:
            return True

    def kill(self) -> None:
        """Kills the process."""
        self.is_killed = True
        self.end()

    def end(self) -> None:
        """Ends the process if it still runs; it is not yet reaped, so its id is no other's."""
        with suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGKILL)


class WorkerPool:
    """Keeps workers ready. All methods are safe to call from any thread."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.num_restarts = 0  # of workers that died or were killed
        self.num_waiting = 0
        self.num_busy = 0
        self._failure = ""  # why the last start failed
        self._idle = deque[Worker]()
        self._ended = list[Worker]()  # found dead, not yet reaped
        self._closed = False
        self._changed = threading.Condition()
        self._zygote: Zygote | None = None
        self._zygote_lock = threading.Lock()  # held for one question and its answer
        self._keeper = threading.Thread(target=self._keep, name="decoders", daemon=True)
        self._keeper.start()

    @property
    def num_alive(self) -> int:
        """How many of `num_workers` serve or can serve; all of them until a start has failed."""
        with self._changed:
            if not self._failure:
                return self.settings.num_workers
            idle = sum(not worker.has_ended for worker in self._idle)
            return min(self.num_busy + idle, self.settings.num_workers)

    @property
    def idle_process_ids(self) -> list[int]:
        """Process ids of the idle workers."""
        with self._changed:
            return [worker.process_id for worker in self._idle]

    def acquire(self, is_cancelled: Callable[[], bool]) -> Worker | None:
        """Waits for a worker. Returns None if the request is cancelled first.

        Raises DecodersBusyError after `wait_seconds`.
        """
        began = time.monotonic()
        until = began + self.settings.wait_seconds
        with self._changed:
            self.num_waiting += 1
            try:
                while not is_cancelled():
                    if worker := self._take():
                        self.num_busy += 1
                        return worker
                    if self._failure and not self.num_busy:
                        until = min(until, began + HOPELESS_SECONDS)
                    if self._closed or (left := until - time.monotonic()) <= 0:
                        raise DecodersBusyError(self._explain_waiting())
                    self._changed.wait(min(left, POLL_SECONDS))
                return None
            finally:
                self.num_waiting -= 1

    def release(self, worker: Worker) -> int | None:
        """Takes a worker back. Returns the wait status of one that is lost, None if unknown."""
        worker.num_jobs += 1
        if not (worker.is_lost or self._closed or worker.num_jobs >= self.settings.max_jobs):
            with self._changed:
                self.num_busy -= 1
                self._idle.appendleft(worker)  # the others stay warm; this one's memory is in use
                self._changed.notify_all()
            return None
        status = self._end(worker)
        with self._changed:
            self.num_busy -= 1
            self.num_restarts += worker.is_lost
            self._changed.notify_all()
        return status

    def close(self) -> None:
        """Ends all workers."""
        with self._changed:
            self._closed = True
            idle, self._idle = list(self._idle), deque()
            self._changed.notify_all()
        for worker in idle:
            worker.pipe.close()
        if self._zygote is not None:
            self._zygote.close()
        self._keeper.join()
        if self._zygote is not None:  # that was started meanwhile
            self._zygote.close()

    def _take(self) -> Worker | None:
        """Returns an idle worker that lives, if no more than `num_workers` are busy."""
        if self.num_busy >= self.settings.num_workers:
            return None
        while self._idle:
            worker = self._idle.popleft()
            if not worker.has_ended:
                return worker
            self.num_restarts += 1
            self._ended.append(worker)
            self._changed.notify_all()
        return None

    def _end(self, worker: Worker) -> int | None:
        """Kills and reaps a worker; returns its wait status, None if its parent is gone."""
        worker.pipe.close()
        worker.end()
        with self._zygote_lock:
            if self._zygote is None or self._zygote.is_lost:
                return None
            with suppress(OSError):
                return self._zygote.reap(worker.process_id)
        return None

    def _explain_waiting(self) -> str:
        if self._failure:
            return f"no media decoder can be started ({self._failure}); retry later"
        seconds = self.settings.wait_seconds
        return f"no media decoder became free within {seconds:g} s; retry later"

    def _keep(self) -> None:
        """Starts workers whenever some are missing, until the pool is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._num_missing() > 0)
                if self._closed:
                    return
                ended, self._ended = self._ended, list[Worker]()
            for worker in ended:
                self._end(worker)
            try:
                worker = self._start()
            except (OSError, EOFError, ValueError, TypeError, RuntimeError) as error:
                self._note_failure(str(error) or type(error).__name__)
                continue
            with self._changed:
                if self._failure:
                    logger.info("media decoders can be started again")
                self._failure = ""
                self._idle.append(worker)
                self._changed.notify_all()

    def _note_failure(self, failure: str) -> None:
        with self._changed:
            if self._closed:
                return
            if not self._failure:  # once, however long it lasts
                logger.error("a media decoder cannot be started, retrying: %s", failure)
            self._failure = failure
            self._changed.wait_for(lambda: self._closed, timeout=RETRY_SECONDS)

    def _num_missing(self) -> int:
        wanted = self.settings.num_workers + self.settings.num_spare
        return wanted - self.num_busy - len(self._idle)

    def _start(self) -> Worker:
        if self._zygote is None or self._zygote.is_lost:
            self._zygote = Zygote(self.settings)
            self._zygote.wait_until_ready()
        with self._zygote_lock:
            process_id, pipe = self._zygote.fork()
        worker = Worker(process_id=process_id, pipe=pipe, layers={})
        try:
            if not pipe.poll(CONFINE_SECONDS):
                raise TimeoutError("a new decoder does not answer")
            worker.layers = receive_message(pipe)
        except (OSError, EOFError, ValueError, TypeError):
            self._end(worker)
            raise
        return worker
