"""Samples that cannot be used: counted, written down with their reason, never replaced.

    {"source": "coco.json", "row": 7, "reason": "a.png: not an image"}     quarantine.jsonl

The file is what all processes of a run know together, also after it was stopped: a sample stands in
it once, and counts once.
"""

import fcntl
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from onevision.errors import DataError

FILE_NAME = "quarantine.jsonl"


@dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that could not be read, and why."""

    source: str
    row: int
    reason: str


@dataclass(kw_only=True)
class Quarantine:
    """Collects bad samples; stops the run when they are more than `max_share` of an epoch."""

    # quarantine.jsonl is written here; None writes nothing.
    directory: Path | None
    # Samples of an epoch.
    num_samples: int
    max_share: float = 0.01
    seen: set[tuple[str, int]] = field(default_factory=set)
    # How far the file was read.
    num_bytes_read: int = 0

    @property
    def count(self) -> int:
        """How many samples are bad, as far as this process knows."""
        return len(self.seen)

    def add(self, bad: BadSample) -> None:
        """Write a bad sample down, once. Raises DataError when the error budget is spent."""
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
                f"{bad.reason}; run `onevision data check`, mend the data, and move {FILE_NAME} "
                "away to count anew"
            )

    def _write(self, bad: BadSample, directory: Path) -> None:
        """Add a line, unless another process or an earlier run has written it."""
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / FILE_NAME).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            self._catch_up(file)
            if (bad.source, bad.row) not in self.seen:
                line = {"source": bad.source, "row": bad.row, "reason": bad.reason}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def _catch_up(self, file: BinaryIO) -> None:
        """Read the lines that are new to this process; one that a crash cut short is removed."""
        file.seek(self.num_bytes_read)
        for line in file.read().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                file.truncate(self.num_bytes_read)
                return
            known = json.loads(line)
            self.seen.add((known["source"], known["row"]))
            self.num_bytes_read += len(line)
