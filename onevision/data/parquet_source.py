"""Parquet files, the format of LLaVA-OneVision-Data -> records by row.

Columns: id, image ({bytes, path}), conversations ([{from, value}]), data_source. A whole row group
is read at a time, and the last few are cached, so rows of one group should be read close together;
`block_starts` says where groups begin.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from onevision.data.records import UNREAD_FIELDS, Fields, RawRecord
from onevision.data.sources import FileSource
from onevision.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

COLUMNS = (
    "id", "image", "images", "video", "videos", "conversations", "messages", "data_source",
    *UNREAD_FIELDS,
)  # fmt: skip
MAX_CACHED_GROUPS = 4


class ParquetSource(FileSource):
    """The rows of Parquet files, one file after the other; `columns` None reads all columns."""

    def __init__(
        self,
        files: Sequence[Path],
        *,
        name: str,
        root: Path,
        columns: Sequence[str] | None = None,
        links: Sequence[Path] = (),
    ) -> None:
        self.columns = columns
        sizes = [_group_sizes(_open(file)) for file in files]
        # The file and the row group of each block.
        self.groups = [(n, group) for n, rows in enumerate(sizes) for group in range(len(rows))]
        counts = [n for rows in sizes for n in rows]
        super().__init__(files, name=name, root=root, counts=counts, links=links)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_cache"}

    @property
    def block_starts(self) -> Sequence[int]:
        return self.starts[:-1].tolist()

    def read(self, row: int) -> RawRecord:
        block, inner = self.locate(row)
        fields = self._read_block(block)[inner]
        where = f"{self.name}, row {row}"
        return RawRecord(where=where, fields=fields, root=self.root, links=self.links)

    @cached_property
    def _cache(self) -> "OrderedDict[int, list[Fields]]":
        return OrderedDict()

    def _read_block(self, block: int) -> list[Fields]:
        if block in self._cache:
            self._cache.move_to_end(block)
            return self._cache[block]
        number, group = self.groups[block]
        file = _open(self.files[number])
        names = file.schema_arrow.names
        columns = [name for name in names if self.columns is None or name in self.columns]
        try:
            rows = file.read_row_group(group, columns=columns).to_pylist()
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.files[number]}: row group {group} is damaged ({error}); download it again"
            ) from error
        self._cache[block] = rows
        if len(self._cache) > MAX_CACHED_GROUPS:
            self._cache.popitem(last=False)
        return rows


def _open(path: Path) -> "ParquetFile":
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{path}: Parquet files need: pip install 'onevision[data]'") from error

    try:
        return ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: not a Parquet file, or cut off ({error}); download it again"
        ) from error


def _group_sizes(file: "ParquetFile") -> list[int]:
    metadata = file.metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
