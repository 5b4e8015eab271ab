"""Follower processes: started with the leader, watched, and ended with it."""

import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec

from onevision import __version__
from onevision.errors import CheckpointError, EngineError
from onevision.generate.parallel.protocol import (
    Failed,
    Join,
    Order,
    PartSpec,
    receive_report,
    send_orders,
)

logger = logging.getLogger(__name__)

END_SECONDS = 5.0
POLL_SECONDS = 0.2


class Followers:
    """The processes of all devices but the first."""

    def __init__(self, specs: Sequence[PartSpec]) -> None:
        """Starts them; they begin to load. Raises EngineError."""
        # Called once, from a thread, when a process ends that should not.
        self.on_loss: Callable[[str], None] | None = None
        self.problem = ""
        self._lock, self._closed = threading.Lock(), False
        self._processes = list[subprocess.Popen[bytes]]()
        self._pipes = list[Connection]()
        try:
            for spec in specs:
                self._start(spec)
        except OSError as error:
            self.close()
            raise EngineError(f"the process of a device cannot be started: {error}") from error

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def process_ids(self) -> list[int]:
        """Their process ids, by device."""
        return [process.pid for process in self._processes]

    def wait_until_loaded(self) -> None:
        """Waits for all to load. Raises CheckpointError with what the first that failed says."""
        self._wait_for_reports()

    def join(self, join_own: Callable[[], None]) -> None:
        """Lets all join the group, the leader by `join_own`; returns when all have.

        Raises CheckpointError as `wait_until_loaded` does, and what `join_own` raises.
        """
        self.send([Join()])
        join_own()
        self._wait_for_reports()
        threading.Thread(target=self._watch, name="devices", daemon=True).start()

    def _wait_for_reports(self) -> None:
        waiting = dict(zip(self._pipes, range(1, len(self._pipes) + 1), strict=True))
        while waiting:
            for pipe in wait(list(waiting)):
                assert isinstance(pipe, Connection)
                number = waiting.pop(pipe)
                try:
                    report = receive_report(pipe)
                except (EOFError, OSError, msgspec.DecodeError):
                    report = Failed(problem=f"the process ended ({self._ending(number)})")
                if isinstance(report, Failed):
                    self.close()
                    raise CheckpointError(f"device {number}: {report.problem}")

    def send(self, orders: Sequence[Order]) -> None:
        """Sends orders to all. Raises OSError if one has ended."""
        for pipe in self._pipes:
            send_orders(pipe, list(orders))

    def check(self) -> None:
        """Raises EngineError if one has been lost."""
        if self.problem:
            raise EngineError(self.problem)

    def lose(self, error: Exception) -> EngineError:
        """Ends all after an error in a pass; returns what to raise."""
        self._fail(f"the devices are out of step ({_first_line(error)}); load the model again")
        return EngineError(self.problem)

    def close(self) -> None:
        """Ends all, at once if they do not by themselves."""
        with self._lock:
            self._closed = True
        for pipe in self._pipes:
            pipe.close()
        until = time.monotonic() + END_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, spec: PartSpec) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            told = msgspec.msgpack.encode(spec).hex()
            arguments = ["-m", "onevision.generate.parallel.follower", str(theirs.fileno()), told]
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the leader, who ends them
            )
        self._processes.append(process)
        self._pipes.append(Connection(ours.detach()))

    def _watch(self) -> None:
        """Waits until a process ends; unless it was asked to, all are lost."""
        while not self._closed:
            for number, process in enumerate(self._processes, start=1):
                if process.poll() is not None and not self._closed:
                    self._fail(
                        f"the process of device {number} ended ({self._ending(number)}); "
                        "load the model again"
                    )
                    return
            time.sleep(POLL_SECONDS)

    def _fail(self, problem: str) -> None:
        with self._lock:
            if self._closed or self.problem:
                self.problem = self.problem or "the devices are closed; load the model again"
                return
            self.problem = problem
        logger.error("%s", problem)
        for process in self._processes:
            process.kill()
        if self.on_loss is not None:
            self.on_loss(problem)

    def _ending(self, number: int) -> str:
        process = self._processes[number - 1]
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def new_meeting_place() -> str:
    """Returns the path of a new file for the processes to meet at."""
    return str(Path(tempfile.mkdtemp(prefix="onevision-devices-")) / "meeting")


def current_version() -> str:
    """Returns what all processes must run alike."""
    return f"{__version__} on Python {sys.version_info.major}.{sys.version_info.minor}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
