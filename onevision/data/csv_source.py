"""CSV and TSV files with a header -> records by row, one field for each column.

    file_name,text
    1.jpg,A cat on a chair.

Rows are found once and indexed by their byte offsets, so that quoted line breaks cost nothing.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from onevision.data.forms.raw import RawRecord
from onevision.data.index import open_index
from onevision.data.sources import FileSource, read_bytes
from onevision.errors import DataError
from onevision.plural import counted

BOM = b"\xef\xbb\xbf"
MAX_HEADER_BYTES = 1 << 16


class CsvSource(FileSource):
    """The rows of CSV files, one file after the other."""

    def __init__(
        self, files: Sequence[Path], *, name: str, root: Path, links: Sequence[Path] = ()
    ) -> None:
        # Of each file [rows, 2]: first byte and end of every row, without the header.
        self.offsets = [open_index(file, _find_rows, columns=2) for file in files]
        self.headers = [_read_header(file) for file in files]
        counts = list(map(len, self.offsets))
        super().__init__(files, name=name, root=root, counts=counts, links=links)

    def read(self, row: int) -> RawRecord:
        number, inner = self.locate(row)
        begin, end = map(int, self.offsets[number].rows[inner])
        names, separator = self.headers[number]
        where = f"{self.name}, row {row}"
        text = read_bytes(self.files[number], begin, end, where=where)
        values = _parse_row(text, separator, where=where)
        if len(values) != len(names):
            raise DataError(
                f"{where}: it has {counted(len(values), 'column')}, "
                f"the header {len(names)}; put texts with commas or line breaks in double quotes"
            )
        fields = dict(zip(names, values, strict=True))
        return RawRecord(where=where, fields=fields, root=self.root, links=self.links)


def _read_header(file: Path) -> tuple[list[str], str]:
    """Returns the names of the columns and what separates them. Raises DataError."""
    with file.open("rb") as handle:
        line = handle.readline(MAX_HEADER_BYTES).removeprefix(BOM)
    separator = "\t" if b"\t" in line and b"," not in line else ","
    names = [name.strip() for name in _parse_row(line, separator, where=f"{file}, header")]
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"{file}: its first line is {line[:60]!r}; expected names of columns")
    return names, separator


def _parse_row(text: bytes, separator: str, *, where: str) -> list[str]:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 ({error}); save the file as UTF-8") from error
    field_limit = csv.field_size_limit(max(csv.field_size_limit(), len(decoded) + 1))
    try:
        return next(csv.reader(io.StringIO(decoded, newline=""), delimiter=separator, strict=True))
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{where}: not a row of CSV ({error}); fix the file") from error
    finally:
        csv.field_size_limit(field_limit)


def _find_rows(file: Path) -> Iterator[int]:
    """Yields the first byte and the end of every row: lines, joined while a quote is open."""
    with file.open("rb") as handle:
        handle.readline(MAX_HEADER_BYTES)
        begin = end = handle.tell()
        is_open = False
        for line in handle:
            end += len(line)
            is_open ^= line.count(b'"') % 2 == 1
            if is_open:
                continue
            if line.strip() or end - begin > len(line):
                yield begin
                yield end
            begin = end
    if is_open:
        raise DataError(f"{file}: a quote that opens at byte {begin:,} never ends; fix the file")
