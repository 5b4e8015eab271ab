"""Memory that a server no longer needs -> given back, before weeks of it add up.

Two things let it rise by some KB per request though nothing is kept (docs/serving.md has figures):
the C allocator keeps freed memory between blocks that live, mostly cached keys and values; and
Python looks for cycles among old objects only once a quarter as many are new, while torch alone
brings a hundred thousand that never end.
"""

import ctypes
import gc
import logging
import threading
import time

logger = logging.getLogger(__name__)

TRIM_SECONDS = 30.0  # between two times that free memory is given back


def freeze_objects() -> None:
    """Takes all objects that there are out of garbage collection: they live as long as we do."""
    gc.collect()
    gc.freeze()


class HeapTrimmer:
    """Gives free pages of the C allocator back to the system, every so often.

    Without the GNU C library it does nothing: other allocators have no such call.
    """

    def __init__(self, seconds: float = TRIM_SECONDS) -> None:
        self._seconds, self._ended = seconds, threading.Event()
        self._thread = threading.Thread(target=self._run, name="heap", daemon=True)

    def start(self) -> None:
        """Begins; `stop` ends it."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            trim = ctypes.CDLL(None).malloc_trim
        except AttributeError:
            logger.debug("the C library has no malloc_trim")
            return
        while not self._ended.wait(self._seconds):
            began = time.monotonic()
            trim(0)
            logger.debug("trimmed the heap in %.1f ms", 1000 * (time.monotonic() - began))
