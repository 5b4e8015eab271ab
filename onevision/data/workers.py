"""Worker processes that decode samples: submit (data set, row), take results in the same order.

A worker that dies (killed, out of memory, a crash in a decoder) or takes too long is replaced, and
the sample it was decoding is tried once more; a sample that costs two workers is reported as bad.
"""

import multiprocessing as mp
import os
import threading
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
from onevision.errors import DataError, InputError, ShardError

# A row, or the reason there is none.
DecodeResult = PackedRow | str
MAX_TRIES = 2
# For one sample. Decoding takes milliseconds, or seconds for long videos.
MAX_SECONDS = 120.0
# Tasks a worker holds, so that it never waits for the next; each has a slot for its row.
SAMPLES_AHEAD = NUM_SLOTS


@dataclass
class _Task:
    dataset: int
    row: int
    tries: int = 0
    result: DecodeResult | ShardError | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    slots: Slots
    tasks: deque[_Task]
    num_answers: int = 0
    # Whether it has started, and when it may have begun its oldest task.
    started: bool = False
    since: float = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether it is decoding a sample."""
        return self.started and bool(self.tasks)

    def give(self, task: _Task) -> None:
        """Sends it a task. Raises OSError if it has died; the task is its own even so."""
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(task)
        self.pipe.send((task.dataset, task.row))

    def take(self) -> None:
        """Receives the result of its oldest task, or, the first time, that it has started.

        Raises EOFError or OSError if it has died.
        """
        answer = self.pipe.recv()
        self.since = time.monotonic()
        if not self.started:
            self.started = True
            return
        if isinstance(answer, SlotRow):
            answer = self.slots.read(answer, task=self.num_answers)
        self.num_answers += 1
        self.tasks.popleft().result = answer


class Workers:
    """A pool that keeps order; with 0 workers, samples are decoded here, without a time limit."""

    def __init__(
        self, reader: SampleReader, *, num_workers: int, max_seconds: float = MAX_SECONDS
    ) -> None:
        self.reader, self.max_seconds = reader, max_seconds
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
        """Queues samples."""
        tasks = [_Task(dataset, row) for dataset, row in samples]
        self._order += tasks
        self._waiting += tasks
        self._feed()

    def result(self) -> DecodeResult:
        """Returns the next result, in the order of submission.

        Raises ShardError if its shard cannot be had.
        """
        task = self._order.popleft()
        if not self._workers:
            self._waiting.popleft()
            return decode_sample(self.reader, task.dataset, task.row)
        while task.result is None:
            self._advance()
        if isinstance(task.result, ShardError):
            raise task.result
        return task.result

    def _advance(self) -> None:
        """Waits until a worker has answered, died or taken too long, and records what happened."""
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
            late = time.monotonic() - worker.since >= self.max_seconds
            if worker.is_busy and late and pipe not in ready:
                worker.process.kill()
                worker.process.join()
                self._replace(worker, f"took longer than {self.max_seconds:g} s to read it")
        self._feed()

    def _seconds_left(self) -> float | None:
        """Returns how long until a worker takes too long; None if none is busy."""
        since = [worker.since for worker in self._workers if worker.is_busy]
        return max(0.0, min(since) + self.max_seconds - time.monotonic()) if since else None

    def _feed(self) -> None:
        for worker in self._workers:
            while self._waiting and len(worker.tasks) < SAMPLES_AHEAD:
                try:
                    worker.give(self._waiting.popleft())
                except (BrokenPipeError, OSError):
                    break  # it is dead; `_advance` notices and gives its tasks to another

    def _replace(self, worker: _Worker, problem: str) -> None:
        """Starts another worker in place of a dead one."""
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
    """Returns how to start processes: from a clean one that has imported this module once."""
    if "forkserver" not in mp.get_all_start_methods():
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def exit_with_parent() -> None:
    """Ends this process once the one that started it is gone.

    A worker of a ProcessPoolExecutor whose parent is killed would wait for it forever.
    """
    parent = mp.parent_process()
    assert parent is not None, "this process was not started by multiprocessing"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_sample(reader: SampleReader, dataset: int, row: int) -> DecodeResult:
    """Returns a sample's row, or the reason there is none, in one line. Raises ShardError."""
    try:
        return reader.decode(dataset, row)
    except ShardError:
        raise  # the next sample of the shard would be lost, too
    except (DataError, InputError) as error:
        return str(error)


def _work(pipe: Connection, slots: Slots, reader: SampleReader) -> None:
    """Decodes samples until the parent closes the pipe."""
    torch.set_num_threads(1)
    for task in count():
        try:
            if task == 0:
                pipe.send(None)  # it has started
            dataset, row = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        answer = _answer(reader, dataset, row, slots, task=task)
        try:
            pipe.send(answer)
        except (OSError, KeyboardInterrupt):
            return


def _answer(
    reader: SampleReader, dataset: int, row: int, slots: Slots, *, task: int
) -> SlotRow | ShardError | str:
    try:
        result = decode_sample(reader, dataset, row)
    except ShardError as error:
        return error
    if isinstance(result, str):
        return result
    try:
        return slots.write(result, task=task)
    except DataError as error:
        return str(error)
