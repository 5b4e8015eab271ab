"""Samples that cannot be used -> quarantine.jsonl: counted and recorded, never replaced.

    {"source": "coco.json", "row": 7, "reason": "a.png: not an image"}     quarantine.jsonl

All processes of a run share the file, also after a restart: each sample is recorded and counted
once.
"""

import fcntl
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from onevision.errors import DataError
from onevision.files import encode_line, whole_lines

FILE_NAME = "quarantine.jsonl"


@dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that could not be read, and why."""

    source: str
    row: int
    reason: str


@dataclass(kw_only=True)
class Quarantine:
    """Collects bad samples; stops the run once they exceed `max_share` of an epoch."""

    # Where quarantine.jsonl is written; None writes nothing.
    directory: Path | None
    # Samples of an epoch.
    num_samples: int
    max_share: float = 0.01
    seen: set[tuple[str, int]] = field(default_factory=set)
    # How much of the file has been read.
    num_bytes_read: int = 0

    @property
    def count(self) -> int:
        """How many bad samples this process knows of."""
        return len(self.seen)

    def add(self, bad: BadSample) -> None:
        """Records a bad sample, once. Raises DataError if there are now too many."""
        key = (bad.source, bad.row)
        if key in self.seen:
            return
        if self.directory is not None:
            self._write(bad, self.directory)
        self.seen.add(key)
        if self.count > self.max_share * self.num_samples:
            raise DataError(
                f"{self.count} of {self.num_samples:,} samples are broken, more than the "
                f"{self.max_share:.1%} allowed; the last is {bad.source}, row {bad.row}: "
                f"{bad.reason}; run `onevision data check`, fix the data, and move {FILE_NAME} "
                "away to start counting again"
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
