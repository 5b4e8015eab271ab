"""Guards of a run: against a second trainer, for signals, and for processes that die or hang."""

import contextlib
import faulthandler
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import torch
import torch.distributed as dist

from onevision.errors import ConfigError, TrainingError
from onevision.train.snapshots import snapshots, step_of

LOCK = "lock"


@contextlib.contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Locks a run's directory for this process. Raises ConfigError if another one holds the lock.

    The lock belongs to the process, so it is released however the process ends.
    """
    path = directory / LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{directory}: cannot be written to ({error.strerror}); give another --output"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ConfigError(
                f"{directory}: another trainer runs here ({holder}); wait for it, stop it, or "
                "give another --output"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def explain_failures(directory: Path) -> Iterator[None]:
    """Turns failures of memory and of other processes into a TrainingError of one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        summary = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate" in summary:
            problem = (
                f"out of memory ({summary}); free some, set recompute=true or a smaller "
                "max_tokens, then"
            )
        # gloo's errors have no type of their own; their text begins with gloo's source file.
        elif isinstance(error, dist.DistError) or "gloo" in summary:
            problem = f"another process of this run has died or hangs ({summary});"
        else:
            raise
        raise TrainingError(
            f"{directory}: {problem} start it again: {describe_resumption(directory)}"
        ) from error


def describe_resumption(directory: Path) -> str:
    """Returns where a run resumes if it is started again."""
    found = snapshots(directory)
    return f"it resumes from step {step_of(found[-1])}" if found else "it starts over"


class Interruption:
    """SIGTERM and Ctrl-C request a stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether the run should stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code of a process that was stopped: 0 for SIGTERM, 130 for Ctrl-C."""
        return 130 if self.signal == signal.SIGINT else 0

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _record(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested:
            os._exit(128 + number)
        self.signal = number


class Watchdog:
    """Ends the process, printing the stacks of all threads, if no step ends for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def touch(self) -> None:
        """Restarts the count; called when a step has ended."""
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=sys.__stderr__ or 2)

    def __enter__(self) -> Self:
        self.touch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
