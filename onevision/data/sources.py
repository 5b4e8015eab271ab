"""Where records lie: JSON, Parquet, WebDataset shards, a Python sequence -> RawRecord by row.

A source holds an index of places, never the records; reading a row touches that row alone (of
Parquet: its row group). Sources travel to worker processes by path.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from onevision.data.records import Fields, RawRecord
from onevision.errors import DataError


class RecordSource(Protocol):
    """Rows that can be read in any order."""

    name: str

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def read(self, row: int) -> RawRecord:
        """Return a row. Raises DataError where it cannot be read."""
        ...

    @property
    def block_starts(self) -> Sequence[int]:
        """First rows of the stretches that are cheap to read together; [0] if all rows are."""
        ...

    @property
    def fingerprint(self) -> str:
        """What changes when the records do."""
        ...


class SequenceSource:
    """Records that are already in memory."""

    block_starts = (0,)

    def __init__(self, name: str, records: Sequence[Fields], *, root: Path | None = None) -> None:
        self.name, self.records, self.root = name, records, root

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.records).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.records)

    def read(self, row: int) -> RawRecord:
        return RawRecord(where=f"{self.name}, row {row}", fields=self.records[row], root=self.root)


def open_source(path: Path, *, name: str | None = None, root: Path | None = None) -> RecordSource:
    """Open a file, or the shards of a directory, as a source.

    `root` is where relative media lie; by default the file's directory. Raises DataError for a
    missing file and an unknown format.
    """
    from onevision.data.json_source import JsonSource
    from onevision.data.parquet_source import ParquetSource
    from onevision.data.tar_source import TarSource

    kinds: Mapping[str, Callable[..., RecordSource]] = {
        ".json": JsonSource,
        ".jsonl": JsonSource,
        ".parquet": ParquetSource,
        ".tar": TarSource,
    }
    if not path.exists():
        raise DataError(f"{path}: no such file; check the mixture's path")
    files = sorted(p for p in path.iterdir() if p.suffix in kinds) if path.is_dir() else [path]
    suffixes = {file.suffix for file in files}
    if len(suffixes) != 1 or not suffixes <= kinds.keys():
        found = ", ".join(sorted(suffixes)) or "nothing"
        raise DataError(
            f"{path}: found {found}; expected one of {', '.join(kinds)}, or a directory of one kind"
        )
    return kinds[suffixes.pop()](
        files, name=name or path.name, root=root or (path if path.is_dir() else path.parent)
    )
