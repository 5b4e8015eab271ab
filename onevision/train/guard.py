"""Guards of a run: for signals, and for processes that die or hang."""

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import torch
import torch.distributed as dist

from onevision.errors import TrainingError
from onevision.train.saving.place import Place
from onevision.train.snapshots import snapshots, step_of


@contextlib.contextmanager
def explain_failures(directory: Path, place: Place) -> Iterator[None]:
    """Turns failures of memory and of other processes into a TrainingError of one line.

    `place` is where the snapshots of the run in `directory` lie.
    """
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
            f"{directory}: {problem} start it again: {describe_resumption(place)}"
        ) from error


def describe_resumption(place: Place) -> str:
    """Returns where a run with snapshots in `place` resumes if it is started again."""
    try:
        found = snapshots(place)
    except OSError as error:
        return f"its snapshots cannot be listed ({error})"
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
