"""What one process does while the others wait: work -> its result, in all of them.

Who waits hears now and then that there is still somebody at work, so that waiting may take hours
and a process that has died or hangs still ends the others within their patience.
"""

import time
from collections.abc import Callable

from onevision.errors import OneVisionError, TrainingError
from onevision.train.guard import Watchdog
from onevision.train.parallel import Processes

GOING_ON, DONE, FAILED = 0.0, 1.0, 2.0
# Signs of life for each time that somebody would wait without.
SIGNS = 8


def done_once(
    processes: Processes,
    work: Callable[[Callable[[], None]], bytes],
    *,
    patience_seconds: float,
    what: str,
) -> bytes:
    """Let the first process do `work`, and return what it returned on all of them.

    `work` calls what it is given whenever it has come a little further; if it does not for
    `patience_seconds`, every process ends. Raises what `work` raises, and TrainingError on the
    others, who say that `what` failed.
    """
    with Watchdog(patience_seconds) as watchdog:
        if processes.rank == 0:
            signs = _Signs(processes, watchdog, every_seconds=patience_seconds / SIGNS)
            try:
                result = work(signs.alive)
            except OneVisionError:
                processes.total(FAILED)
                raise
            processes.total(DONE)
            return processes.give(result)
        said = GOING_ON
        while said == GOING_ON:
            (said,) = processes.total(GOING_ON)
            watchdog.touch()
        if said == FAILED:
            raise TrainingError(f"{what} failed in the first process; see what it says")
        return processes.give(None)


class _Signs:
    """Tells the others, not too often, that the first process is at work."""

    def __init__(self, processes: Processes, watchdog: Watchdog, *, every_seconds: float) -> None:
        self.processes, self.watchdog, self.every_seconds = processes, watchdog, every_seconds
        self.last = time.monotonic()

    def alive(self) -> None:
        self.watchdog.touch()
        if time.monotonic() - self.last >= self.every_seconds:
            self.processes.total(GOING_ON)
            self.last = time.monotonic()
