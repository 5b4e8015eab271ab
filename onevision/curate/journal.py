"""Attempts -> a file of JSON lines that only grows; the attempts of a task by its id.

Whatever kills the process, what is lost is at most a line that was being written, and it is cut off
when the file is opened again.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from onevision.curate.task import Attempt
from onevision.errors import DataError
from onevision.files import cut_torn_line, encode_line, whole_lines

# A power cut loses at most what was appended in this time.
SYNC_SECONDS = 1.0


def read_attempts(path: Path) -> Iterator[Attempt]:
    """Yields the attempts of a file that another process may be writing. Raises DataError."""
    decoder = msgspec.json.Decoder(Attempt)
    for line in whole_lines(path.read_bytes()):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: a line is damaged ({error}); remove it") from error


class Journal:
    """The attempts of a job. Holds their positions in memory, 150 bytes or so each."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises DataError for a damaged line, OSError."""
        self.path = path
        self.money = 0.0
        self._places: dict[bytes, tuple[int, ...]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        cut_torn_line(path)
        self._decoder = msgspec.json.Decoder(Attempt)
        # Nothing is held back in memory, so that a full disk is noticed where it is met.
        self._writer, self._reader = path.open("ab", buffering=0), path.open("rb")
        try:
            for place, attempt in self._scan():
                self._remember(attempt, place)
        except BaseException:
            self._close()
            raise
        self._end = self._writer.seek(0, os.SEEK_END)
        self._synced = time.monotonic()

    def append(self, attempt: Attempt) -> None:
        """Writes an attempt down. Raises OSError."""
        line = encode_line(asdict(attempt))
        left = memoryview(line)
        while left:
            left = left[self._writer.write(left) :]
        self._remember(attempt, self._end)
        self._end += len(line)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def attempts(self, task: str) -> list[Attempt]:
        """Returns the attempts at a task, in the order in which they were made."""
        found = []
        for place in self._places.get(bytes.fromhex(task), ()):
            self._reader.seek(place)
            found.append(self._parse(self._reader.readline(), place))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._sync()
        finally:
            self._close()

    def _close(self) -> None:
        self._writer.close()
        self._reader.close()

    def _sync(self) -> None:
        os.fsync(self._writer.fileno())
        self._synced = time.monotonic()

    def _remember(self, attempt: Attempt, place: int) -> None:
        key = bytes.fromhex(attempt.task)
        self._places[key] = (*self._places.get(key, ()), place)
        self.money += attempt.money

    def _scan(self) -> Iterator[tuple[int, Attempt]]:
        place = 0
        for line in self._reader:
            yield place, self._parse(line, place)
            place += len(line)

    def _parse(self, line: bytes, place: int) -> Attempt:
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self.path}: the line at byte {place:,} is damaged ({error}); remove it, and its "
                "task is asked again"
            ) from error
