"""A folder of pictures, or files of records -> shards, each of which a worker describes by itself.

Files of tar and Parquet are a shard each; the pictures of a folder are cut into shards of
`shard_size`. A shard is a line of JSON, so that it can travel to another machine, which sees the
same paths.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from onevision.curate.recaption import open_pictures
from onevision.data.containers import recognise
from onevision.data.sources import RecordSource, SequenceSource, open_source
from onevision.data.tar_source import TarSource
from onevision.errors import DataError

SHARDED = ("tar", "parquet")
SUFFIXES = (".tar", ".parquet")
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where workers run, and how many."""

    address: str  # of a cluster: "auto", "ray://HOST:10001", "HOST:6379"; "local" starts one here
    num_workers: int
    gpus_each: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of records, or some pictures of a folder."""

    name: str
    path: str  # of the file, or of the folder
    # Paths of the pictures below the folder; none for a file.
    pictures: tuple[str, ...] = ()

    def open(self) -> RecordSource:
        """Opens its records. Raises DataError."""
        path = Path(self.path)
        if not self.pictures and recognise(path) == "tar":
            return TarSource([path], name=path.name, root=path.parent, needs_text=False)
        if not self.pictures:
            return open_source(path)
        records = [{"image": picture} for picture in self.pictures]
        return SequenceSource(self.name, records, root=Path(self.path))

    def to_json(self) -> str:
        """Returns the shard as a line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Shard":
        """Reads what `to_json` wrote."""
        values = json.loads(text)
        return cls(**(values | {"pictures": tuple(values["pictures"])}))


def split(path: Path, *, shard_size: int) -> list[Shard]:
    """Returns the shards of a folder or a file, in the order of their names. Raises DataError."""
    files = [path] if path.is_file() else sorted(_list_files(path))
    if files:
        return [_of_file(file) for file in files]
    (source,) = open_pictures(path, root=None)
    names = [str(source.read(row).fields["image"]) for row in range(len(source))]
    return [
        Shard(
            name=f"{number:06d}-{_digest(names[begin : begin + shard_size])}",
            path=str(path.resolve()),
            pictures=tuple(names[begin : begin + shard_size]),
        )
        for number, begin in enumerate(range(0, len(names), shard_size))
    ]


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; give pictures, tar shards or Parquet")
    return [f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file()]


def _of_file(file: Path) -> Shard:
    kind = recognise(file)
    if kind not in SHARDED:
        raise DataError(
            f"{file}: it is {kind}; --ray takes a folder of pictures, or of files of tar or Parquet"
        )
    return Shard(name=f"{file.stem}-{_digest([file.name])}", path=str(file.resolve()))


def _digest(names: Sequence[str]) -> str:
    """Returns a name for what a shard holds, so that other pictures are another shard."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
