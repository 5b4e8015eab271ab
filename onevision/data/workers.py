"""Worker processes that decode samples: submit (part, row), take results in the same order.

A worker that dies (killed, out of memory, a crash in a decoder) or takes too long over a sample is
replaced, and the sample it had is tried once more; what costs two workers is reported as bad.
"""

import multiprocessing as mp
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

import torch

from onevision.data.packing import PackedRow
from onevision.data.samples import SampleReader
from onevision.data.slots import NUM_SLOTS, SlotRow, Slots
from onevision.errors import DataError, InputError

# A row, or why there is none.
DecodeResult = PackedRow | str
MAX_TRIES = 2
# A worker may take so long over a sample. Decoding takes milliseconds, of long videos seconds.
SECONDS_EACH = 120.0
# Tasks that a worker holds, so that it never waits for its next; each has a slot for its row.
SAMPLES_AHEAD = NUM_SLOTS


@dataclass
class _Task:
    part: int
    row: int
    tries: int = 0
    result: DecodeResult | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    slots: Slots
    tasks: deque[_Task]
    num_answers: int = 0
    # Whether it has started, and since when it may have been at its oldest task.
    awake: bool = False
    since: float = 0.0

    @property
    def at_work(self) -> bool:
        """Whether it is reading a sample."""
        return self.awake and bool(self.tasks)

    def give(self, task: _Task) -> None:
        """Hand it a task. Raises OSError where it has died; the task is its own even so."""
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(task)
        self.pipe.send((task.part, task.row))

    def take(self) -> None:
        """Receive the answer to the oldest task, or first of all that it has started.

        Raises EOFError, OSError where it has died.
        """
        answer = self.pipe.recv()
        self.since = time.monotonic()
        if not self.awake:
            self.awake = True
            return
        if isinstance(answer, SlotRow):
            answer = self.slots.read(answer, task=self.num_answers)
        self.num_answers += 1
        self.tasks.popleft().result = answer


class Workers:
    """A pool that keeps order; with 0 workers, samples are decoded here, however long it takes."""

    def __init__(
        self, reader: SampleReader, *, num_workers: int, seconds_each: float = SECONDS_EACH
    ) -> None:
        self.reader, self.seconds_each = reader, seconds_each
        self._waiting: deque[_Task] = deque()  # not yet given to a worker
        self._order: deque[_Task] = deque()  # in the order of their results
        self._workers = [self._start() for _ in range(num_workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
            worker.process.join()
            worker.slots.close()

    def submit(self, samples: Sequence[tuple[int, int]]) -> None:
        """Ask for samples."""
        tasks = [_Task(part, row) for part, row in samples]
        self._order += tasks
        self._waiting += tasks
        self._feed()

    def result(self) -> DecodeResult:
        """Return the next result, in the order of asking."""
        task = self._order.popleft()
        if not self._workers:
            self._waiting.popleft()
            return decode_sample(self.reader, task.part, task.row)
        while task.result is None:
            self._advance()
        return task.result

    def _advance(self) -> None:
        """Wait until some worker has answered, died or taken too long, and note what it says."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        ready = wait(list(by_pipe), timeout=self._seconds_left())
        for pipe in ready:
            assert isinstance(pipe, Connection)
            worker = by_pipe[pipe]
            try:
                worker.take()
            except (EOFError, OSError):
                worker.process.join()
                self._replace(worker, f"died reading it (exit code {worker.process.exitcode})")
        for pipe, worker in by_pipe.items():
            late = time.monotonic() - worker.since >= self.seconds_each
            if worker.at_work and late and pipe not in ready:
                worker.process.kill()
                worker.process.join()
                self._replace(worker, f"took longer than {self.seconds_each:g} s to read it")
        self._feed()

    def _seconds_left(self) -> float | None:
        """Return how long until a worker takes too long; None where none is at work."""
        since = [worker.since for worker in self._workers if worker.at_work]
        return max(0.0, min(since) + self.seconds_each - time.monotonic()) if since else None

    def _feed(self) -> None:
        for worker in self._workers:
            while self._waiting and len(worker.tasks) < SAMPLES_AHEAD:
                try:
                    worker.give(self._waiting.popleft())
                except (BrokenPipeError, OSError):
                    break  # it is dead; `_advance` finds out and gives its tasks to another

    def _replace(self, worker: _Worker, problem: str) -> None:
        """Put another in the place of a worker that is over."""
        worker.pipe.close()
        worker.slots.close()
        self._workers[self._workers.index(worker)] = self._start()
        held = list(worker.tasks)
        if held:
            held[0].tries += 1
            if held[0].tries == MAX_TRIES:
                held[0].result = f"{MAX_TRIES} workers {problem}"
                held = held[1:]
        self._waiting.extendleft(reversed(held))

    def _start(self) -> _Worker:
        context, slots = process_context(), Slots()
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, slots, self.reader), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, pipe=ours, slots=slots, tasks=deque())


def process_context() -> ForkServerContext | SpawnContext:
    """Return how processes are started: from a clean one that has imported this once."""
    if "forkserver" not in mp.get_all_start_methods():
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def decode_sample(reader: SampleReader, part: int, row: int) -> DecodeResult:
    """Return a sample's row, or in one line why there is none."""
    try:
        return reader.row(part, row)
    except (DataError, InputError) as error:
        return str(error)


def _work(pipe: Connection, slots: Slots, reader: SampleReader) -> None:
    """Answer samples with results until nobody asks any more."""
    torch.set_num_threads(1)
    for task in count():
        try:
            if task == 0:
                pipe.send(None)  # it has started
            part, row = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        answer = _answer(reader, part, row, slots, task=task)
        try:
            pipe.send(answer)
        except (OSError, KeyboardInterrupt):
            return


def _answer(reader: SampleReader, part: int, row: int, slots: Slots, *, task: int) -> SlotRow | str:
    result = decode_sample(reader, part, row)
    if isinstance(result, str):
        return result
    try:
        return slots.write(result, task=task)
    except DataError as error:
        return str(error)
