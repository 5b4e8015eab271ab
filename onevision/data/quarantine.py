"""Samples that cannot be used: counted, written down with their reason, never replaced."""

import json
from dataclasses import dataclass, field
from pathlib import Path

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
    count: int = 0
    seen: set[tuple[str, int]] = field(default_factory=set)

    def add(self, bad: BadSample) -> None:
        """Write a bad sample down, once. Raises DataError when the error budget is spent."""
        if (bad.source, bad.row) in self.seen:
            return
        self.seen.add((bad.source, bad.row))
        self.count += 1
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / FILE_NAME).open("a", encoding="utf-8") as file:
                line = {"source": bad.source, "row": bad.row, "reason": bad.reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.count > self.max_share * self.num_samples:
            raise DataError(
                f"{self.count} of {self.num_samples:,} samples are broken, more than the "
                f"{self.max_share:.1%} allowed; the last is {bad.source}, row {bad.row}: "
                f"{bad.reason}; run `onevision data check` and mend the data"
            )
