"""Worker processes that decode samples: submit (part, row), take results in the same order.

A worker that dies (killed, out of memory, a crash in a decoder) is replaced, and the sample it had
is tried once more; what kills two workers is reported as bad.
"""

import multiprocessing as mp
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

import torch
from numpy.typing import NDArray

from onevision.anyres import Layout
from onevision.data.packing import Row
from onevision.data.samples import SampleReader
from onevision.errors import DataError, InputError

# A row, or why there is none.
Result = Row | str
MAX_TRIES = 2
SAMPLES_AHEAD = 2  # of each worker, so that it never waits for its next


@dataclass
class _Task:
    part: int
    row: int
    tries: int = 0
    result: Result | None = None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    tasks: deque[_Task]


class Workers:
    """A pool that keeps order; with 0 workers, samples are decoded here."""

    def __init__(self, reader: SampleReader, *, num_workers: int) -> None:
        self.reader = reader
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

    def submit(self, samples: Sequence[tuple[int, int]]) -> None:
        """Ask for samples."""
        tasks = [_Task(part, row) for part, row in samples]
        self._order += tasks
        self._waiting += tasks
        self._feed()

    def result(self) -> Result:
        """Return the next result, in the order of asking."""
        task = self._order.popleft()
        if not self._workers:
            self._waiting.popleft()
            return read(self.reader, task.part, task.row)
        while task.result is None:
            self._advance()
        return task.result

    def _advance(self) -> None:
        """Wait until some worker has answered or died, and note what it says."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            assert isinstance(pipe, Connection)
            worker = by_pipe[pipe]
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            worker.tasks.popleft().result = answer if isinstance(answer, str) else _unpacked(answer)
        self._feed()

    def _feed(self) -> None:
        for worker in self._workers:
            while self._waiting and len(worker.tasks) < SAMPLES_AHEAD:
                task = self._waiting.popleft()
                worker.tasks.append(task)
                try:
                    worker.pipe.send((task.part, task.row))
                except (BrokenPipeError, OSError):
                    break  # it is dead; `_advance` finds out and gives its tasks to another

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = self._start()
        held = list(worker.tasks)
        held[0].tries += 1
        if held[0].tries == MAX_TRIES:
            held[
                0
            ].result = f"{MAX_TRIES} workers died reading it (exit code {worker.process.exitcode})"
            held = held[1:]
        self._waiting.extendleft(reversed(held))

    def _start(self) -> _Worker:
        context = mp.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.reader), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process=process, pipe=ours, tasks=deque())


def read(reader: SampleReader, part: int, row: int) -> Result:
    """Return a sample's row, or in one line why there is none."""
    try:
        return reader.row(part, row)
    except (DataError, InputError) as error:
        return str(error)


def _work(pipe: Connection, reader: SampleReader) -> None:
    """Answer samples with results until nobody asks any more."""
    torch.set_num_threads(1)
    while True:
        try:
            part, row = pipe.recv()
            result = read(reader, part, row)
            pipe.send(result if isinstance(result, str) else _packed(result))
        except (EOFError, BrokenPipeError, KeyboardInterrupt):
            return


# Rows travel as arrays, by value: torch's own way would keep a file open for each tensor.
_Packed = tuple[dict[str, NDArray[Any]], tuple[Layout, ...]]  # Any: ids, masks and pixels


def _packed(row: Row) -> _Packed:
    names = [field.name for field in fields(Row) if field.name != "layouts"]
    return {name: getattr(row, name).numpy() for name in names}, row.layouts


def _unpacked(packed: _Packed) -> Row:
    arrays, layouts = packed
    return Row(layouts=layouts, **{name: torch.from_numpy(a) for name, a in arrays.items()})
