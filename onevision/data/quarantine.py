"""Samples that cannot be used -> quarantine.jsonl: counted and recorded, never replaced.

    {"source": "coco.json", "row": 7, "reason": "a.png: not an image"}     quarantine.jsonl

All processes of a run share the file, also after a restart: each sample is recorded and counted
once.
"""

import fcntl
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from onevision.errors import DataError
from onevision.files import encode_line, whole_lines
from onevision.plural import counted

FILE_NAME = "quarantine.jsonl"


@dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that could not be read, and why."""

    source: str
    row: int
    reason: str

    def describe(self) -> str:
        """Returns "coco.json, row 7: a.png: not an image"; says once where it is."""
        where = f"{self.source}, row {self.row}"
        return self.reason if self.reason.startswith(where) else f"{where}: {self.reason}"


@dataclass(kw_only=True)
class Quarantine:
    """Collects bad samples; stops the run once they exceed `max_share` of an epoch."""

    # Where quarantine.jsonl is written; None writes nothing.
    directory: Path | None
    # Samples of an epoch.
    num_samples: int
    max_share: float = 0.01
    seen: set[tuple[str, int]] = field(default_factory=set)
    # Those of them that planning found.
    planned: set[tuple[str, int]] = field(default_factory=set)
    # How much of the file has been read.
    num_bytes_read: int = 0

    @property
    def count(self) -> int:
        """How many bad samples this process knows of, apart from those that planning found."""
        return len(self.seen - self.planned)

    def add(self, bad: BadSample) -> None:
        """Records a bad sample, once. Raises DataError if there are now too many."""
        key = (bad.source, bad.row)
        if key in self.seen:
            return
        if self.directory is not None:
            self._write(bad, self.directory)
        self.seen.add(key)
        self._check(bad, which="last", count=self.count, total=self.num_samples)

    def add_planned(self, bad: Sequence[BadSample], *, num_rows: int) -> None:
        """Records what planning found unusable among `num_rows`; they count apart from others.

        Raises DataError if there are too many.
        """
        for one in bad:
            if self.directory is not None:
                self._write(one, self.directory)
            self.planned.add((one.source, one.row))
        self.seen |= self.planned
        if bad:
            self._check(bad[0], which="first", count=len(self.planned), total=num_rows)

    def _check(self, bad: BadSample, *, which: str, count: int, total: int) -> None:
        if count > self.max_share * total:
            raise DataError(
                f"{count} of {counted(total, 'sample')} are broken, more than the "
                f"{self.max_share:.1%} allowed; the {which} is {bad.describe()}; run `onevision "
                f"data check` with --stage, fix the data, and move {FILE_NAME} away to start "
                "counting again, or allow more: --set max_bad_share=0.05"
            )

    def _write(self, bad: BadSample, directory: Path) -> None:
        """Adds a line, unless another process or an earlier run has written it."""
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / FILE_NAME).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            self._catch_up(file)
            if (bad.source, bad.row) not in self.seen:
                line = {"source": bad.source, "row": bad.row, "reason": bad.reason}
                file.write(encode_line(line))

    def _catch_up(self, file: BinaryIO) -> None:
        """Reads the lines new to this process; removes one that a crash cut short."""
        file.seek(self.num_bytes_read)
        content = file.read()
        for line in whole_lines(content):
            known = json.loads(line)
            self.seen.add((known["source"], known["row"]))
            self.num_bytes_read += len(line) + 1
        if content and not content.endswith(b"\n"):
            file.truncate(self.num_bytes_read)
