"""The address of snapshots -> a directory of this machine, or one of an object store (fsspec).

    runs/a    file:///mnt/runs/a    memory://a    s3://bucket/runs/a    gs://bucket/runs/a

A `RemotePath` does what snapshots need of `pathlib.Path`, under the same names. A store has no
rename and lists what it holds: there, a snapshot is whole if its manifest, written last, is there.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from onevision.data.remote.store import explained, open_store
from onevision.errors import CheckpointError, ConfigError

PROBE = ".can-be-written-"


@dataclass(frozen=True)
class RemotePath:
    """A path of an object store. Every problem of the store is an OSError."""

    fs: fsspec.AbstractFileSystem
    path: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path.lstrip('/')}"

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.fs, f"{self.path.rstrip('/')}/{name}", self.protocol)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Yields what lies right below and fits, as the store has it now."""
        with explained(self):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self.path, detail=False)
            except FileNotFoundError:  # `isdir` of some stores says no where they cannot be reached
                return
        for one in sorted(found):
            path = RemotePath(self.fs, str(one).rstrip("/"), self.protocol)
            if fnmatch(path.name, pattern):
                yield path

    def read_text(self, encoding: str = "utf-8") -> str:
        """Returns the content of a file."""
        return self.read_bytes().decode(encoding)

    def read_bytes(self, begin: int | None = None, end: int | None = None) -> bytes:
        """Returns the content of a file, or bytes `begin` to `end` of it."""
        with explained(self):
            content = self.fs.cat_file(self.path, start=begin, end=end)
            assert isinstance(content, bytes), "files are opened in binary modes"
            return content

    @contextmanager
    def open(self, mode: str) -> Iterator[Any]:  # Any: a file object of the store
        """Opens a file in a binary mode."""
        with explained(self), self.fs.open(self.path, mode) as file:
            yield file


Place = Path | RemotePath


def open_place(address: str) -> Place:
    """Returns the place of an address, which can be written to.

    Raises ConfigError that says which package or right is missing.
    """
    protocol, found, _ = address.partition("://")
    if not found:
        return Path(address)
    if protocol in ("file", "local"):
        return Path(url_to_fs(address)[1])
    fs, path = open_store(
        address,
        what=f"snapshots is {address!r}",
        expected="a directory or an address such as s3://bucket/runs/a",
        error=ConfigError,
    )
    place = RemotePath(fs, path, protocol)
    probe = place / f"{PROBE}{secrets.token_hex(4)}"  # several processes try at a time
    try:
        with probe.open("wb") as file:
            file.write(b"")
        remove(probe)
    except OSError as error:
        why = str(error).removeprefix(f"{probe}: ")
        raise ConfigError(
            f"{address}: cannot be written to ({why}); check the credentials, the bucket and its "
            "rights"
        ) from error
    return place


def size_of(path: Place) -> int:
    """Returns the bytes of a file. Raises OSError."""
    if isinstance(path, Path):
        return path.stat().st_size
    with explained(path):
        return int(path.fs.size(path.path))


def read_range(path: Place, begin: int, end: int) -> bytes | bytearray:
    """Returns bytes `begin` to `end` of a file. Raises OSError; of a store, CheckpointError."""
    if isinstance(path, RemotePath):
        with restoring(path):
            found = path.read_bytes(begin, end)
            if len(found) != end - begin:
                raise OSError(f"{path}: it ends before byte {end:,}")
            return found
    content = bytearray(end - begin)
    with path.open("rb") as file:
        file.seek(begin)
        if file.readinto(content) != len(content):
            raise OSError(f"{path}: it ends before byte {end:,}")
    return content


@contextmanager
def restoring(path: Place) -> Iterator[None]:
    """Turns every problem of a store that a snapshot is read from into a CheckpointError."""
    try:
        yield
    except OSError as error:
        if isinstance(path, Path):
            raise
        why = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(
            f"{path}: cannot be read ({why}); check the credentials and the network, then start "
            "it again"
        ) from error


def remove(path: RemotePath) -> None:
    """Deletes a file, or all below a path, in that order: what makes it whole first."""
    with explained(path):
        path.fs.invalidate_cache()
        if path.fs.exists(path.path):
            path.fs.rm(path.path, recursive=True)
