"""LLaVA's JSON arrays and JSONL files -> records by row, through an index of byte offsets."""

import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onevision.data.index import file_identity, open_index
from onevision.data.records import RawRecord
from onevision.errors import DataError

# What matters to find where an element of an array ends: strings, and brackets outside of them.
TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

# A file is mapped while it is indexed; what was read leaves memory in pieces of this size.
RELEASE_BYTES = 32 * 2**20


class JsonSource:
    """The elements of JSON arrays, or the lines of JSONL files, one file after the other."""

    block_starts = (0,)

    def __init__(self, files: Sequence[Path], *, name: str, root: Path) -> None:
        self.name, self.root, self.files = name, root, tuple(files)
        self.places = [open_index(file, _places, columns=2) for file in self.files]
        self.ends = np.cumsum([len(places) for places in self.places])

    @property
    def fingerprint(self) -> str:
        return " ".join(map(file_identity, self.files))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, row: int) -> RawRecord:
        number = int(np.searchsorted(self.ends, row, side="right"))
        inner = row - int(self.ends[number - 1]) if number else row
        begin, end = map(int, self.places[number][inner])
        where = f"{self.name}, row {row}"
        with self.files[number].open("rb") as file:
            file.seek(begin)
            text = file.read(end - begin)
        try:
            fields = json.loads(text)
        except ValueError as error:  # also bytes that are not UTF-8
            raise DataError(f"{where}: the record is not JSON ({error}); mend the file") from error
        if not isinstance(fields, dict):
            raise DataError(f"{where}: it is {type(fields).__name__}; expected an object")
        return RawRecord(where=where, fields=fields, root=self.root)


def _places(file: Path) -> Iterator[int]:
    """Give begin and end of every record, in bytes."""
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the file is empty; expected a JSON array or JSON lines")
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = re.compile(rb"\s*(\xef\xbb\xbf)?\s*").match(data)
        first = start.end() if start else 0
        if data[first : first + 1] == b"[":
            yield from _elements(data, first, file)
        else:
            yield from _lines(data)


def _lines(data: mmap.mmap) -> Iterator[int]:
    begin = released = 0
    while begin < len(data):
        released = _release(data, begin, released)
        end = data.find(b"\n", begin)
        end = len(data) if end < 0 else end
        if data[begin:end].strip():
            yield begin
            yield end
        begin = end + 1


def _elements(data: mmap.mmap, first: int, file: Path) -> Iterator[int]:
    depth = released = 0
    for token in TOKENS.finditer(data, first):
        kind = data[token.start()]
        if kind in b"[{":
            depth += 1
            if depth == 2:
                yield token.start()
        elif kind in b"]}":
            if depth == 2:
                yield token.end()
                released = _release(data, token.end(), released)
            depth -= 1
            if depth == 0:
                return
    raise DataError(f"{file}: the JSON array has no end; the file is cut off, fetch it again")


def _release(data: mmap.mmap, position: int, released: int) -> int:
    """Give pages that have been read back to the system now and then; returns up to where."""
    if position - released < RELEASE_BYTES or not hasattr(mmap, "MADV_DONTNEED"):
        return released
    pages = (position - released) // mmap.PAGESIZE * mmap.PAGESIZE
    data.madvise(mmap.MADV_DONTNEED, released, pages)
    return released + pages
