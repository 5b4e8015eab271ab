"""Parquet, as LLaVA-OneVision-Data is released -> records by row.

Columns: id, image ({bytes, path}), conversations ([{from, value}]), data_source. A row group is
read at a time, and the last few are kept, so rows of one group should be read near each other;
`block_starts` tells the order where groups begin.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onevision.data.index import file_identity
from onevision.data.records import Fields, RawRecord
from onevision.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

COLUMNS = ("id", "image", "images", "video", "conversations", "messages", "data_source")
MAX_GROUPS_HELD = 4


class ParquetSource:
    """The rows of Parquet files, one file after the other; `columns` None reads all of them."""

    def __init__(
        self,
        files: Sequence[Path],
        *,
        name: str,
        root: Path,
        columns: Sequence[str] | None = COLUMNS,
    ) -> None:
        self.name, self.root, self.files, self.columns = name, root, tuple(files), columns
        sizes = [
            (number, group, rows)
            for number in range(len(self.files))
            for group, rows in enumerate(_group_sizes(self._open(number)))
        ]
        self.groups = [(number, group) for number, group, _ in sizes]
        self.starts = np.concatenate([[0], np.cumsum([rows for _, _, rows in sizes])])

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_held"}

    @property
    def fingerprint(self) -> str:
        return " ".join(map(file_identity, self.files))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def block_starts(self) -> Sequence[int]:
        return self.starts[:-1].tolist()

    def read(self, row: int) -> RawRecord:
        block = int(np.searchsorted(self.starts, row, side="right")) - 1
        fields = self._rows(block)[row - int(self.starts[block])]
        return RawRecord(where=f"{self.name}, row {row}", fields=fields, root=self.root)

    @cached_property
    def _held(self) -> "OrderedDict[int, list[Fields]]":
        return OrderedDict()

    def _rows(self, block: int) -> list[Fields]:
        if block in self._held:
            self._held.move_to_end(block)
            return self._held[block]
        number, group = self.groups[block]
        file = self._open(number)
        names = file.schema_arrow.names
        columns = [name for name in names if self.columns is None or name in self.columns]
        try:
            rows = file.read_row_group(group, columns=columns).to_pylist()
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.files[number]}: row group {group} is damaged ({error}); fetch it again"
            ) from error
        self._held[block] = rows
        if len(self._held) > MAX_GROUPS_HELD:
            self._held.popitem(last=False)
        return rows

    def _open(self, number: int) -> "ParquetFile":
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        try:
            return ParquetFile(self.files[number])
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{self.files[number]}: not a Parquet file, or cut off ({error}); fetch it again"
            ) from error


def _group_sizes(file: "ParquetFile") -> list[int]:
    metadata = file.metadata
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
