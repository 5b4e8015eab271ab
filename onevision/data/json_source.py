"""JSON arrays, JSON lines, or objects one after the other -> records by row, by byte offsets."""

import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from onevision.data.forms.raw import RawRecord
from onevision.data.index import open_index
from onevision.data.sources import FileSource, parse_record, read_bytes
from onevision.errors import DataError

# Enough to find where an element of an array ends: strings, and brackets outside them.
TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
# Elements of an array that are neither strings nor in brackets.
SCALARS = re.compile(rb"[^\s,]+")

# A file is mapped while it is indexed; pages already read are released in chunks of this size.
RELEASE_BYTES = 32 * 2**20
# Lines that are tried before a file of `{` is taken for objects of many lines.
MAX_TRIED_LINES = 3


class JsonSource(FileSource):
    """The elements of JSON arrays, or the lines of JSONL files, one file after the other."""

    def __init__(
        self, files: Sequence[Path], *, name: str, root: Path, links: Sequence[Path] = ()
    ) -> None:
        # Of each file [rows, 2]: first byte and end of every record.
        self.offsets = [open_index(file, _find_records, columns=2) for file in files]
        counts = list(map(len, self.offsets))
        super().__init__(files, name=name, root=root, counts=counts, links=links)

    def read(self, row: int) -> RawRecord:
        number, inner = self.locate(row)
        begin, end = map(int, self.offsets[number].rows[inner])
        where = f"{self.name}, row {row}"
        text = read_bytes(self.files[number], begin, end, where=where)
        fields = parse_record(text, where=where)
        return RawRecord(where=where, fields=fields, root=self.root, links=self.links)


def _find_records(file: Path) -> Iterator[int]:
    """Yields the first byte and the end of every record."""
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the file is empty; expected a JSON array or JSON lines")
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = re.compile(rb"\s*(\xef\xbb\xbf)?\s*").match(data)
        first = start.end() if start else 0
        if data[first : first + 1] == b"[":
            yield from _find_elements(data, first, file)
        elif _has_lines(data, first):
            yield from _find_lines(data)
        else:
            yield from _find_objects(data, first, file)


def _has_lines(data: mmap.mmap, first: int) -> bool:
    """Whether one of the first lines is a whole object: then each line is a record."""
    begin = first
    for _ in range(MAX_TRIED_LINES):
        end = data.find(b"\n", begin)
        if end < 0 and begin == first:
            return True
        line = data[begin : end if end >= 0 else len(data)].strip()
        if line.startswith(b"{") and line.endswith(b"}"):
            return True
        if end < 0:
            return False
        begin = end + 1
    return False


def _find_objects(data: mmap.mmap, first: int, file: Path) -> Iterator[int]:
    """Yields the first byte and the end of every object of many lines."""
    depth = released = 0
    for token in TOKENS.finditer(data, first):
        kind = data[token.start()]
        if kind in b"[{":
            depth += 1
            if depth == 1:
                yield token.start()
        elif kind in b"]}":
            depth -= 1
            if depth == 0:
                yield token.end()
                released = _release(data, token.end(), released)
            elif depth < 0:
                break
    if depth:
        raise DataError(f"{file}: the brackets of its JSON do not match; it is cut off or damaged")


def _find_lines(data: mmap.mmap) -> Iterator[int]:
    begin = released = 0
    while begin < len(data):
        released = _release(data, begin, released)
        end = data.find(b"\n", begin)
        end = len(data) if end < 0 else end
        if data[begin:end].strip():
            yield begin
            yield end
        begin = end + 1


def _find_elements(data: mmap.mmap, first: int, file: Path) -> Iterator[int]:
    """Yields the first byte and the end of every element of an array, objects or not."""
    depth = released = 0
    begin = first + 1  # of what follows the last element
    for token in TOKENS.finditer(data, first):
        kind = data[token.start()]
        if depth == 1:
            yield from _find_scalars(data, begin, token.start())
            begin = token.end()
        if kind in b"[{":
            depth += 1
            if depth == 2:
                yield token.start()
        elif kind in b"]}":
            if depth == 2:
                begin = token.end()
                yield begin
                released = _release(data, begin, released)
            depth -= 1
            if depth == 0:
                _check_is_end(data, token.end(), file)
                return
        elif depth == 1:  # a string
            yield token.start()
            yield token.end()
    raise DataError(f"{file}: the JSON array has no end; the file is cut off, fetch it again")


def _find_scalars(data: mmap.mmap, begin: int, end: int) -> Iterator[int]:
    """Yields the first byte and the end of numbers and words between two elements."""
    for scalar in SCALARS.finditer(data, begin, end):
        yield scalar.start()
        yield scalar.end()


def _check_is_end(data: mmap.mmap, end: int, file: Path) -> None:
    """Refuses what follows the array, such as a second one. Raises DataError."""
    if more := re.compile(rb"\S").search(data, end):
        raise DataError(
            f"{file}: the JSON array ends at byte {end:,}, but more follows at byte "
            f"{more.start():,}; files that were joined must be one array, or given one by one"
        )


def _release(data: mmap.mmap, position: int, released: int) -> int:
    """Releases the pages read so far once there are enough; returns where they end."""
    if position - released < RELEASE_BYTES or not hasattr(mmap, "MADV_DONTNEED"):
        return released
    pages = (position - released) // mmap.PAGESIZE * mmap.PAGESIZE
    data.madvise(mmap.MADV_DONTNEED, released, pages)
    return released + pages
