"""What may come between a run and its end: another trainer, a signal, a process that hangs."""

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
def only_trainer(directory: Path) -> Iterator[None]:
    """Hold a run's directory for this process. Raises ConfigError where another one holds it.

    The lock belongs to the process, so it is free again however the process ends.
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
                f"{directory}: another trainer writes here ({holder}); wait for it, stop it, or "
                "give another --output"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def told_plainly(directory: Path) -> Iterator[None]:
    """Say in one line what system and other processes do to a run. Raises TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate" in said:
            problem = (
                f"memory has run out ({said}); free some, set recompute=true or a smaller "
                "max_tokens, then"
            )
        # What gloo raises has no type of its own; it begins with gloo's source file.
        elif isinstance(error, dist.DistError) or "gloo" in said:
            problem = f"another process of this run has died or hangs ({said});"
        else:
            raise
        raise TrainingError(
            f"{directory}: {problem} start it again: {goes_on(directory)}"
        ) from error


def goes_on(directory: Path) -> str:
    """Say where a run would go on that is started again."""
    found = snapshots(directory)
    return f"it goes on from step {step_of(found[-1])}" if found else "it begins anew"


class Interruption:
    """SIGTERM and Ctrl-C ask for a stop after the step at hand; a second one stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    @property
    def asked(self) -> bool:
        """Whether somebody wants the run to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a process ends with that was asked to stop: 0 for SIGTERM, 130 for Ctrl-C."""
        return 130 if self.signal == signal.SIGINT else 0

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked:
            os._exit(128 + number)
        self.signal = number


class Watchdog:
    """Ends the process, with the stacks of all threads, if no step ends for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def touch(self) -> None:
        """A step has ended: count anew."""
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
