"""A place -> a source: records by row, out of JSON, CSV, Parquet, tar shards or a Python sequence.

A source holds an index of positions, never the records; reading a row touches that row alone (in
Parquet: its row group). Sources travel to worker processes as paths.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from onevision.data.containers import (
    HEAD_BYTES,
    Container,
    find_files,
    recognise,
    recognise_head,
    unpack,
)
from onevision.data.forms.raw import Fields, RawRecord
from onevision.data.index import file_identity
from onevision.data.remote.cache import DataFile, on_disk, open_cache
from onevision.data.remote.fetch import ask, read_part
from onevision.data.remote.listing import find_shards
from onevision.data.remote.shard import Shard
from onevision.data.remote.store import is_address
from onevision.errors import DataError

# Of one record of JSON or CSV, base64 included.
MAX_RECORD_BYTES = 512 * 2**20


class RecordSource(Protocol):
    """Rows that can be read in any order."""

    name: str
    # Where relative media paths start; None if the source holds the bytes of its media.
    root: Path | None
    # Further directories that links below the root may lead to.
    links: tuple[Path, ...]

    def __len__(self) -> int:
        """Returns the number of rows."""
        ...

    def read(self, row: int) -> RawRecord:
        """Returns a row. Raises DataError if it cannot be read."""
        ...

    @property
    def block_starts(self) -> Sequence[int]:
        """First rows of the blocks that are cheap to read together; (0,) if all rows are."""
        ...

    @property
    def shards(self) -> Sequence[Shard]:
        """The shards of a store that hold the rows; none if they lie on this machine."""
        ...

    @property
    def shard_starts(self) -> Sequence[int]:
        """The first row of each shard; (0,) if there are none."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that changes when the records do."""
        ...


class SequenceSource:
    """Records that are already in memory."""

    block_starts = (0,)
    shards: tuple[Shard, ...] = ()
    shard_starts = (0,)

    links: tuple[Path, ...] = ()

    def __init__(self, name: str, records: Sequence[Fields], *, root: Path | None = None) -> None:
        self.name, self.records, self.root = name, records, root

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.records).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.records)

    def read(self, row: int) -> RawRecord:
        return RawRecord(where=f"{self.name}, row {row}", fields=self.records[row], root=self.root)


class FileSource:
    """The rows of several files, one file after the other; subclasses read them.

    `counts` are the rows of each block: a file, or a part of one.
    """

    def __init__(
        self,
        files: Sequence[DataFile],
        *,
        name: str,
        root: Path | None,
        counts: Sequence[int],
        links: Sequence[Path] = (),
    ) -> None:
        self.files, self.name = tuple(files), name
        self.root: Path | None = root
        self.links = tuple(links)
        # Travels along, so that workers share the cache of the process that opened the source.
        self.cache = open_cache() if self.shards else None
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def block_starts(self) -> Sequence[int]:
        return (0,)

    @property
    def shards(self) -> Sequence[Shard]:
        return tuple(file for file in self.files if isinstance(file, Shard))

    @property
    def shard_starts(self) -> Sequence[int]:
        return (0,)

    @property
    def fingerprint(self) -> str:
        return " ".join(map(file_identity, self.files))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def locate(self, row: int) -> tuple[int, int]:
        """Returns the block of a row, and the row's number inside it."""
        block = int(np.searchsorted(self.starts, row, side="right")) - 1
        return block, row - int(self.starts[block])


def read_bytes(file: DataFile, begin: int, end: int, *, where: str) -> bytes:
    """Returns the bytes of a record. Raises DataError if they are gone, or far too many."""
    if end - begin > MAX_RECORD_BYTES:
        raise DataError(
            f"{where}: the record has {end - begin:,} bytes; expected at most "
            f"{MAX_RECORD_BYTES:,}: put its media into files"
        )
    try:
        with on_disk(file) as path, path.open("rb") as handle:
            handle.seek(begin)
            return handle.read(end - begin)
    except OSError as error:
        raise DataError(f"{where}: {file} cannot be read ({error.strerror})") from error


def parse_record(text: bytes, *, where: str) -> dict[str, object]:
    """Parses a record's JSON object. Raises DataError."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8
        raise DataError(f"{where}: the record is not JSON ({error}); fix the file") from error
    if not isinstance(fields, dict):
        raise DataError(f"{where}: it is {type(fields).__name__}; expected an object")
    return fields


def open_source(
    place: Path | str,
    *,
    name: str | None = None,
    root: Path | None = None,
    links: Sequence[Path] = (),
) -> RecordSource:
    """Opens a file, a folder or a pattern of files as a source; the content says what they are.

    A place may also be the address of tar or Parquet shards, a text with "://" in it. `root` is
    where relative media paths start; by default the folder of the files. `links` are further
    directories that links below it may lead to. Raises DataError for a missing file and an unknown
    format.
    """
    from onevision.data.csv_source import CsvSource
    from onevision.data.json_source import JsonSource
    from onevision.data.parquet_source import ParquetSource
    from onevision.data.tar_source import TarSource

    if isinstance(place, str) and is_address(place):
        shards = find_shards(place)
        of_shards = TarSource if _recognise_shards(shards[0]) == "tar" else ParquetSource
        return of_shards(shards, name=name or shards[0].name, root=root, links=tuple(links))
    path = Path(place)
    classes: Mapping[Container, Callable[..., RecordSource]] = {
        "json": JsonSource,
        "csv": CsvSource,
        "parquet": ParquetSource,
        "tar": TarSource,
    }
    found = find_files(path)
    files = [unpack(file) for file in found]
    kinds = [recognise(file) for file in files]
    if len(set(kinds)) > 1:
        other = next(number for number, kind in enumerate(kinds) if kind != kinds[0])
        raise DataError(
            f"{path}: {found[0].name} is {kinds[0]}, {found[other].name} is {kinds[other]}; give "
            "files of one kind, or list them in a mixture"
        )
    return classes[kinds[0]](
        files, name=name or path.name, root=root or found[0].parent, links=tuple(links)
    )


def _recognise_shards(first: Shard) -> Container:
    """Returns what shards are, by the content of the first. Raises DataError."""
    head = ask(lambda: read_part(first, 0, HEAD_BYTES))
    kind = recognise_head(head, first.address)
    if kind not in ("tar", "parquet"):
        raise DataError(
            f"{first}: it is {kind}; at an address, tar and Parquet shards are read: write those, "
            "or download it"
        )
    return kind
