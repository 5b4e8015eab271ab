"""The process from which all workers are forked, as its parent sees it.

It is asked over a socket: `zygote_main.py` is the other end, and has the protocol.
"""

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from onevision.inputs.sandbox_worker import SandboxSettings
from onevision.inputs.zygote_main import ANSWER, FORK, ORDER, REAP

# What it needs of our environment; the rest may hold secrets.
ENVIRONMENT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONHOME",
    "PYTHONWARNINGS",
)
ANSWER_SECONDS = 10.0  # in which it must answer


class Zygote:
    """The parent of the workers. One thread may ask at a time; any may close it."""

    def __init__(self, settings: SandboxSettings) -> None:
        """Starts it. Raises OSError."""
        self._start_seconds, self.is_lost = settings.start_seconds, False
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "onevision.inputs.zygote_main",
                     str(theirs.fileno()), msgspec.msgpack.encode(settings).hex()],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # signals of the terminal do not reach it
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        self._control = ours

    def wait_until_ready(self) -> None:
        """Waits until the decoders are loaded. Raises OSError."""
        self._control.settimeout(self._start_seconds)
        self._receive()
        self._control.settimeout(ANSWER_SECONDS)

    def fork(self) -> tuple[int, Connection]:
        """Returns the process id of a new worker, and our end of its pipe. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process_id = self._ask(ORDER.pack(FORK, 0), [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return process_id, Connection(ours.detach())

    def reap(self, process_id: int) -> int:
        """Returns the wait status of a worker that has ended. Raises OSError if it has not."""
        return self._ask(ORDER.pack(REAP, process_id))

    def close(self) -> None:
        """Ends it and all workers; a call that waits for its answer fails."""
        self.is_lost = True
        self._process.kill()
        self._process.wait()
        self._control.close()

    def _ask(self, order: bytes, descriptors: list[int] | None = None) -> int:
        try:
            socket.send_fds(self._control, [order], descriptors or [])
        except OSError:
            self.close()
            raise
        return self._receive()

    def _receive(self) -> int:
        """Returns the value of an answer. Raises OSError if it says so, or does not come."""
        try:
            answer = self._control.recv(ANSWER.size)
            if len(answer) < ANSWER.size:
                raise ConnectionResetError("the parent of the decoders has ended")
        except OSError:
            self.close()
            raise
        number, value = ANSWER.unpack(answer)
        if number:
            raise OSError(number, os.strerror(number))
        return value


def _environment() -> dict[str, str]:
    """Returns an environment without secrets that finds the same modules as this process."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
