"""WebDataset shards -> records by row: members with the same name up to the first dot are one.

0001.json     the record ("conversations", "id", ...), or 0001.txt, a caption
0001.jpg      its image; several are 0001.0.jpg, 0001.1.jpg, ... in that order
0001.mp4      its video
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from onevision.data.forms.raw import RawRecord
from onevision.data.index import open_indices
from onevision.data.remote.cache import DataFile, on_disk
from onevision.data.sources import FileSource, parse_record
from onevision.errors import DataError

RECORD, IMAGE, VIDEO, TEXT = 0, 1, 2, 3
KINDS = {
    "json": RECORD,
    **dict.fromkeys(("txt", "caption"), TEXT),
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"), IMAGE),
    **dict.fromkeys(("mp4", "webm", "mkv", "mov", "avi"), VIDEO),
}
# What Python's tarfile raises for sizes and headers that make no sense.
DAMAGES = (ValueError, OverflowError, RecursionError, MemoryError, EOFError)
NUMBER = re.compile(r"[0-9]{1,18}")


class TarSource(FileSource):
    """The records of tar shards, one shard after the other; media are read from the shard.

    Without `needs_text`, media that no text belongs to are records too.
    """

    def __init__(
        self,
        files: Sequence[DataFile],
        *,
        name: str,
        root: Path | None,
        links: Sequence[Path] = (),
        needs_text: bool = True,
    ) -> None:
        self.needs_text = needs_text
        # Of each shard [members, 4]: number of the record, kind, first byte, number of bytes.
        self.members = open_indices(files, _find_members, columns=4)
        counts = [int(one.rows[-1, 0]) + 1 if len(one) else 0 for one in self.members]
        super().__init__(files, name=name, root=root, counts=counts, links=links)

    @property
    def block_starts(self) -> Sequence[int]:
        return self.starts[:-1].tolist() if self.shards else (0,)

    @property
    def shard_starts(self) -> Sequence[int]:
        return self.block_starts

    def read(self, row: int) -> RawRecord:
        number, inner = self.locate(row)
        members = self.members[number].rows
        first, last = np.searchsorted(members[:, 0], [inner, inner + 1])
        contents: dict[int, list[bytes]] = {RECORD: [], IMAGE: [], VIDEO: [], TEXT: []}
        with on_disk(self.files[number], self.cache) as path, path.open("rb") as file:
            for _, kind, begin, size in members[first:last].tolist():
                file.seek(begin)
                contents[kind].append(file.read(size))
        where = f"{self.name}, row {row}"
        fields: dict[str, object] = {}
        if self.needs_text or contents[RECORD] or contents[TEXT]:
            fields = _parse_fields(contents[RECORD], contents[TEXT], where=where)
        media = {"image": contents[IMAGE] or None, "video": contents[VIDEO] or None}
        return RawRecord(where=where, fields=fields | media, root=None)


def _parse_fields(records: list[bytes], texts: list[bytes], *, where: str) -> dict[str, object]:
    """Returns the fields of a record, or a caption's. Raises DataError."""
    if not records and len(texts) == 1:
        try:
            return {"text": texts[0].decode()}
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: its text is not UTF-8 ({error}); fix the shard") from error
    if len(records) != 1:
        raise DataError(f"{where}: {len(records)} members end in .json; expected one")
    return parse_record(records[0], where=where)


def _find_members(file: DataFile) -> Iterator[int]:
    try:
        with on_disk(file) as path, tarfile.open(path, "r:") as archive:
            known = ((m, *_split(m.name)) for m in archive if m.isfile())
            wanted = ((m, key, kind) for m, key, kind in known if kind is not None)
            for number, (_, group) in enumerate(groupby(wanted, key=lambda item: item[1])):
                for member, _, kind in sorted(group, key=lambda item: _image_number(item[0].name)):
                    yield from (number, kind, member.offset_data, member.size)
            _check_is_end(file, path, archive.offset)
    except (tarfile.TarError, *DAMAGES) as error:
        raise DataError(f"{file}: not a tar file, or cut off ({error}); fetch it again") from error


def _check_is_end(file: DataFile, path: Path, end: int) -> None:
    """Refuses what follows the zeros after an archive, such as a second one. Raises DataError."""
    with path.open("rb") as handle:
        handle.seek(end)
        while block := handle.read(1 << 20):
            if block.strip(b"\0"):
                raise DataError(
                    f"{file}: the archive ends at byte {end:,}, but more follows: it is cut off, "
                    "or archives were joined; fetch it again, or give them one by one"
                )


def _split(name: str) -> tuple[str, int | None]:
    """Returns a member's key and kind; the kind is None if it belongs to no record."""
    folder, _, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    return f"{folder}/{key}", KINDS.get(extension.rpartition(".")[2].lower())


def _image_number(name: str) -> int:
    number = name.rpartition("/")[2].split(".")[1]
    return int(number) if NUMBER.fullmatch(number) else -1
