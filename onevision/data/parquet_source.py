"""Parquet files, the format of LLaVA-OneVision-Data -> records by row.

Columns are fields of records: image ({bytes, path}), conversations ([{from, value}]), and so on.
Those that mean nothing in any form are not read. A whole row group is read at a time, and the last
few are cached, so rows of one group should be read close together; `block_starts` says where groups
begin.

A small file may hold huge groups: dictionaries repeat a value at no cost. So rows are counted, and
what repeated values would take is computed, before a group is unfolded.
"""

from collections import OrderedDict
from collections.abc import Container, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from onevision.data.forms.raw import Fields, RawRecord
from onevision.data.forms.table import KNOWN_FIELDS
from onevision.data.index import open_indices
from onevision.data.remote.cache import DataFile, on_disk
from onevision.data.remote.fetch import ask, check_unchanged, read_part
from onevision.data.remote.shard import Shard
from onevision.data.sources import FileSource
from onevision.errors import DataError
from onevision.extras import imports_of_extra

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData, ParquetFile

# Of a row group, once unfolded. Writers make groups of some hundred MiB at most.
MAX_GROUP_BYTES = 2 * 2**30
MAX_GROUP_VALUES = 50_000_000
# The value of a column that means nothing in any form, so that it is counted as unread.
NOT_READ = "not read"
MAX_CACHED_GROUPS = 4
# Read at once from a shard in a store; what follows the last group is rarely longer.
END_BYTES = 2**16


class ParquetSource(FileSource):
    """The rows of Parquet files, one file after the other; `columns` None reads all columns."""

    def __init__(
        self,
        files: Sequence[DataFile],
        *,
        name: str,
        root: Path | None,
        columns: Container[str] | None = KNOWN_FIELDS,
        links: Sequence[Path] = (),
    ) -> None:
        self.columns = columns
        sizes = _group_sizes(files)
        # Why blocks cannot be read, so that each is tried once.
        self._refused: dict[int, str] = {}
        # The file and the row group of each block.
        self.groups = [(n, group) for n, rows in enumerate(sizes) for group in range(len(rows))]
        counts = [n for rows in sizes for n in rows]
        super().__init__(files, name=name, root=root, counts=counts, links=links)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_cache"}

    @property
    def block_starts(self) -> Sequence[int]:
        return self.starts[:-1].tolist()

    @property
    def shard_starts(self) -> Sequence[int]:
        if not self.shards:
            return (0,)
        firsts = np.searchsorted([file for file, _ in self.groups], range(len(self.files)))
        return self.starts[firsts].tolist()

    def read(self, row: int) -> RawRecord:
        block, inner = self.locate(row)
        fields = self._read_block(block)[inner]
        where = f"{self.name}, row {row}"
        return RawRecord(where=where, fields=fields, root=self.root, links=self.links)

    @cached_property
    def _cache(self) -> "OrderedDict[int, list[Fields]]":
        return OrderedDict()

    def _read_block(self, block: int) -> list[Fields]:
        if block in self._refused:
            raise DataError(self._refused[block])
        if block in self._cache:
            self._cache.move_to_end(block)
            return self._cache[block]
        number, group = self.groups[block]
        with on_disk(self.files[number], self.cache) as path:
            file = _open(path, name=str(self.files[number]))
            names = file.schema_arrow.names
            columns = [name for name in names if self.columns is None or name in self.columns]
            unread = dict.fromkeys((name for name in names if name not in columns), NOT_READ)
            rows: list[Fields]
            try:
                rows = _read_group(path, file, group, columns, name=str(self.files[number]))
            except DataError as error:
                self._refused[block] = str(error)
                raise
        if unread:
            rows = [{**row, **unread} for row in rows]
        self._cache[block] = rows
        if len(self._cache) > MAX_CACHED_GROUPS:
            self._cache.popitem(last=False)
        return rows


def _open(file: "Path | BinaryIO", *, name: str) -> "ParquetFile":
    message = f"{name}: Parquet files need: pip install 'onevision[data]'"
    with imports_of_extra("data", message, error=DataError):
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{name}: not a Parquet file, or cut off ({error}); download it again"
        ) from error


def _group_sizes(files: Sequence[DataFile]) -> list[list[int]]:
    """Returns the rows of each row group of each file; of shards, kept once they are known."""
    if all(isinstance(file, Path) for file in files):
        return [list(_read_sizes(file)) for file in files]
    return [index.rows[:, 0].tolist() for index in open_indices(files, _read_sizes, columns=1)]


def _read_sizes(file: DataFile) -> Iterator[int]:
    """Yields the rows of each row group, from the end of a file, which is all that is read."""
    name = str(file)
    if isinstance(file, Path):
        metadata = _open(file, name=name).metadata
    else:
        metadata = ask(lambda: _read_end(file))
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if not 0 <= size <= MAX_GROUP_VALUES:
            raise DataError(
                f"{name}: row group {group} says it has {size:,} rows; expected at most "
                f"{MAX_GROUP_VALUES:,}: write smaller groups"
            )
        yield size


def _read_end(shard: Shard) -> "FileMetaData":
    """Returns what the end of a shard says, whose last bytes are its own length. Raises DataError.

    pyarrow gets the bytes, not the store, whose problems it would take for damage.
    """
    end = read_part(shard, shard.size - END_BYTES, shard.size)
    length = int.from_bytes(end[-8:-4], "little") + 8
    if end.endswith(b"PAR1") and len(end) < min(length, shard.size):
        end = read_part(shard, shard.size - length, shard.size)
    check_unchanged(shard)
    return _open(BytesIO(end), name=str(shard)).metadata


def _read_group(
    path: Path, file: "ParquetFile", group: int, columns: list[str], *, name: str
) -> list[Fields]:
    """Returns the rows of a group. Raises DataError if it is damaged or too large."""
    import pyarrow as pa

    try:
        _check_size(path, file, group, columns, name=name)
        return file.read_row_group(group, columns=columns).to_pylist()
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise DataError(
            f"{name}: row group {group} is damaged ({error!s:.200}); download it again"
        ) from error


def _check_size(
    path: Path, file: "ParquetFile", group: int, columns: list[str], *, name: str
) -> None:
    """Raises DataError if a group would take too much memory once dictionaries are unfolded."""
    metadata = file.metadata.row_group(group)
    total = 0
    for number in range(metadata.num_columns):
        chunk = metadata.column(number)
        if chunk.path_in_schema.partition(".")[0] not in columns:
            continue
        if not 0 <= chunk.num_values <= MAX_GROUP_VALUES:
            raise DataError(
                f"{name}: row group {group} holds {chunk.num_values:,} values in column "
                f"{chunk.path_in_schema!r}; expected at most {MAX_GROUP_VALUES:,}"
            )
        size = chunk.total_uncompressed_size
        repeats = chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page
        if repeats and size * chunk.num_values > MAX_GROUP_BYTES:
            size = _measure_unfolded(path, group, chunk.path_in_schema)
        total += size
    if total > MAX_GROUP_BYTES:
        raise DataError(
            f"{name}: row group {group} takes {total / 2**30:,.1f} GiB once unfolded; expected at "
            f"most {MAX_GROUP_BYTES / 2**30:.0f} GiB: write smaller row groups"
        )


def _measure_unfolded(path: Path, group: int, leaf: str) -> int:
    """Returns the bytes of a column whose repeated values are written out, without doing so."""
    import pyarrow.compute as pc
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(path, read_dictionary=[leaf])
    total = 0
    for array in file.read_row_group(group, columns=[leaf]).column(0).chunks:
        for values in _list_leaves(array):
            lengths = pc.call_function("binary_length", [values.dictionary])
            total += pc.call_function("sum", [lengths.take(values.indices)]).as_py() or 0
    return total


def _list_leaves(array: "pa.Array") -> "Iterator[pa.DictionaryArray]":
    """Yields the arrays of repeated values inside lists and structures."""
    import pyarrow as pa

    if isinstance(array, pa.DictionaryArray):
        yield array
    elif isinstance(array, pa.StructArray):
        for number in range(array.type.num_fields):
            yield from _list_leaves(array.field(number))
    elif isinstance(array, pa.ListArray | pa.LargeListArray):
        yield from _list_leaves(array.values)
