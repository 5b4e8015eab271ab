"""WebDataset shards -> records by row: members that share a name up to the first dot are one.

0001.json     the record ("conversations", "id", ...)
0001.jpg      its image; several are 0001.0.jpg, 0001.1.jpg, ... in that order
0001.mp4      its video
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from onevision.data.index import file_identity, open_index
from onevision.data.records import RawRecord
from onevision.errors import DataError

RECORD, IMAGE, VIDEO = 0, 1, 2
KINDS = {
    "json": RECORD,
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"), IMAGE),
    **dict.fromkeys(("mp4", "webm", "mkv", "mov", "avi"), VIDEO),
}


class TarSource:
    """The records of tar shards, one shard after the other; media are read from the shard."""

    block_starts = (0,)

    def __init__(self, files: Sequence[Path], *, name: str, root: Path) -> None:
        self.name, self.root, self.files = name, root, tuple(files)
        # A row a member: record number in the shard, kind, first byte, number of bytes.
        self.members = [open_index(file, _members, columns=4) for file in self.files]
        self.ends = np.cumsum([int(m[-1, 0]) + 1 if len(m) else 0 for m in self.members])

    @property
    def fingerprint(self) -> str:
        return " ".join(map(file_identity, self.files))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, row: int) -> RawRecord:
        number = int(np.searchsorted(self.ends, row, side="right"))
        inner = row - int(self.ends[number - 1]) if number else row
        members = self.members[number]
        first, last = np.searchsorted(members[:, 0], [inner, inner + 1])
        held: dict[int, list[bytes]] = {RECORD: [], IMAGE: [], VIDEO: []}
        with self.files[number].open("rb") as file:
            for _, kind, begin, size in members[first:last].tolist():
                file.seek(begin)
                held[kind].append(file.read(size))
        where = f"{self.name}, row {row}"
        if len(held[RECORD]) != 1:
            raise DataError(f"{where}: {len(held[RECORD])} members end in .json; expected one")
        try:
            fields = json.loads(held[RECORD][0])
        except ValueError as error:
            raise DataError(f"{where}: its .json is not JSON ({error}); mend it") from error
        if not isinstance(fields, dict):
            raise DataError(f"{where}: its .json is {type(fields).__name__}; expected an object")
        media = {"image": held[IMAGE] or None, "video": held[VIDEO] or None}
        return RawRecord(where=where, fields={**fields, **media}, root=None)


def _members(file: Path) -> Iterator[int]:
    try:
        with tarfile.open(file, "r:") as archive:
            known = ((m, *_split(m.name)) for m in archive if m.isfile())
            wanted = ((m, key, kind) for m, key, kind in known if kind is not None)
            for number, (_, group) in enumerate(groupby(wanted, key=lambda item: item[1])):
                for member, _, kind in sorted(group, key=lambda item: _image_number(item[0].name)):
                    yield from (number, kind, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(f"{file}: not a tar file, or cut off ({error}); fetch it again") from error


def _split(name: str) -> tuple[str, int | None]:
    """Return a member's key and kind; None for what is no part of a record."""
    folder, _, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    return f"{folder}/{key}", KINDS.get(extension.rpartition(".")[2].lower())


def _image_number(name: str) -> int:
    number = name.rpartition("/")[2].split(".")[1]
    return int(number) if number.isdigit() else -1
