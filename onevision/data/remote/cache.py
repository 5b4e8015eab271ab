"""A shard of a store -> a file on this disk, for as long as it is read.

    $ONEVISION_CACHE/shards/
        KEY-0007.tar            a whole shard; its access time is when it was last used
        KEY-0008.tar.partial    one being fetched, at its full length: the room it takes is taken
        lock                    held to look, make room and begin, never while bytes travel

All processes of a machine share the directory and its limit, ONEVISION_SHARDS_GIB. Before a shard
is fetched, the least recently used ones go. A shared lock is held on a shard while it is read, an
exclusive one while it is fetched; so what is read stays, and a part without a lock was left by a
process that was killed.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from onevision.data.remote.fetch import copy_shard
from onevision.data.remote.shard import Shard
from onevision.errors import DataError, ShardError
from onevision.files import cache_directory

LIMIT_VARIABLE, DEFAULT_GIB = "ONEVISION_SHARDS_GIB", 32.0
PARTIAL, LOCK = ".partial", "lock"
# For room that others take: they read a record, or fetch a shard.
MAX_WAIT_SECONDS, POLL_SECONDS = 900.0, 0.05


# A file of this machine, or one of a store.
DataFile = Path | Shard


@contextmanager
def on_disk(file: DataFile, cache: "ShardCache | None" = None) -> Iterator[Path]:
    """Yields where a file can be read, as long as it is needed: a shard is fetched if it must be.

    The cache is that of this machine unless given. Raises ShardError if the shard cannot be had.
    """
    if isinstance(file, Path):
        yield file
        return
    with ExitStack() as held:
        try:
            path = held.enter_context((cache or open_cache()).hold(file))
        except DataError as error:
            raise ShardError(str(error)) from error
        yield path


def open_cache() -> "ShardCache":
    """Returns the cache of this machine. Raises DataError if its limit is not a number."""
    told = os.environ.get(LIMIT_VARIABLE, str(DEFAULT_GIB))
    try:
        limit = float(told)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e9:
        raise DataError(f"{LIMIT_VARIABLE} is {told!r:.40}; expected a number of GiB above 0")
    return ShardCache(directory=cache_directory() / "shards", max_bytes=int(limit * 2**30))


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """Copies of shards that together never take more than `max_bytes`."""

    directory: Path
    max_bytes: int

    @contextmanager
    def hold(self, shard: Shard) -> Iterator[Path]:
        """Yields the file of a shard, which stays until it is let go; fetches it if needed.

        Raises DataError if it cannot be fetched or there is no room.
        """
        path = self.path_of(shard)
        while (file := _open_whole(path)) is None:
            self._fetch(shard, path)
        with file:
            if (size := os.fstat(file.fileno()).st_size) != shard.size:
                raise DataError(
                    f"{path}: it has {size:,} bytes, {shard} has {shard.size:,}; something else "
                    "wrote it: delete it"
                )
            os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
            yield path

    def fetch(self, shard: Shard) -> None:
        """Fetches a shard unless it is there, and counts it as used. Raises DataError."""
        with self.hold(shard):
            pass

    def path_of(self, shard: Shard) -> Path:
        """Returns where a shard lies if it is there."""
        key = hashlib.sha256(shard.identity.encode()).hexdigest()[:32]
        return self.directory / f"{key}-{shard.name[-80:]}"

    def has(self, shard: Shard) -> bool:
        """Whether a shard is there now."""
        return self.path_of(shard).exists()

    def describe(self) -> str:
        """Returns "32 GiB in /cache/shards"."""
        return f"{show_size(self.max_bytes)} in {self.directory}"

    def _fetch(self, shard: Shard, path: Path) -> None:
        """Fetches a shard, or waits until another process has, or has given up."""
        file = self._begin(shard, path)
        if file is None:
            return
        partial, is_whole = path.with_name(path.name + PARTIAL), False
        with file:
            try:
                copy_shard(shard, file)
                os.fsync(file.fileno())
                is_whole = True
            except OSError as error:
                raise self._explain(error, shard) from error
            finally:
                with self._locked():  # what others count does not vanish while they do
                    if is_whole:
                        partial.replace(path)
                    else:
                        partial.unlink(missing_ok=True)

    def _begin(self, shard: Shard, path: Path) -> BinaryIO | None:
        """Returns a new file that is locked, with room for the shard; None if another has it."""
        if shard.size > self.max_bytes:
            raise DataError(
                f"{shard}: it takes {show_size(shard.size)}, more than the cache of shards "
                f"may ({self.describe()}); set {LIMIT_VARIABLE} to a few shards at least"
            )
        partial = path.with_name(path.name + PARTIAL)
        give_up = time.monotonic() + MAX_WAIT_SECONDS
        while time.monotonic() < give_up:
            with self._locked():
                if path.exists():
                    return None
                if _delete(partial) and self._make_room(shard):
                    return _create(partial, shard.size)
                other = _open(partial)
            if other is not None:
                with other:
                    fcntl.flock(other, fcntl.LOCK_SH)  # until it is whole, or was given up
                return None
            time.sleep(POLL_SECONDS)
        raise DataError(
            f"{shard}: no room for its {show_size(shard.size)} in the cache of shards "
            f"({self.describe()}) in {MAX_WAIT_SECONDS:,.0f} s, as other processes use all of it; "
            f"set {LIMIT_VARIABLE} higher"
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            file = (self.directory / LOCK).open("ab")
        except OSError as error:
            raise DataError(
                f"{self.directory}: the cache of shards cannot be written to "
                f"({error.strerror}); set $ONEVISION_CACHE to a folder that can"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_room(self, shard: Shard) -> bool:
        """Deletes the least recently used shards that are not being read, until there is room.

        Returns False if what others use leaves none. Raises DataError if the disk is too full.
        """
        whole: list[tuple[int, int, Path]] = []
        total = unwritten = 0
        for path in self.directory.iterdir():
            is_partial = path.name.endswith(PARTIAL)
            if path.name == LOCK or (is_partial and _delete(path)):  # its process was killed
                continue
            status = path.stat()
            total += status.st_size
            if is_partial:
                unwritten += max(0, status.st_size - 512 * status.st_blocks)
            else:
                whole.append((status.st_atime_ns, status.st_size, path))
        free = shutil.disk_usage(self.directory).free - unwritten
        for _, size, path in sorted(whole):
            if total + shard.size <= self.max_bytes and shard.size <= free:
                break
            if _delete(path):
                total, free = total - size, free + size
        if shard.size > free:
            raise self._explain(OSError(errno.ENOSPC, "No space left on device"), shard)
        return total + shard.size <= self.max_bytes

    def _explain(self, error: OSError, shard: Shard) -> DataError:
        free = show_size(shutil.disk_usage(self.directory).free)
        return DataError(
            f"{self.directory}: {shard} ({show_size(shard.size)}) cannot be written "
            f"({error.strerror or error}; {free} are free); make room, or set "
            "$ONEVISION_CACHE to another disk"
        )


def show_size(num_bytes: int) -> str:
    """Returns "1.25 GiB", or "620 MiB"."""
    if num_bytes >= 2**30:
        return f"{num_bytes / 2**30:,.4g} GiB"
    return f"{num_bytes / 2**20:,.3g} MiB"


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _open_whole(path: Path) -> BinaryIO | None:
    """Opens a shard and locks it against deletion; None if it is not there."""
    file = _open(path)
    if file is not None:
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # deleted while this waited
    return None


def _create(path: Path, size: int) -> BinaryIO:
    file = path.open("xb", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(size)
    return file


def _lock(file: BinaryIO, kind: int) -> bool:
    """Locks a file if no one else holds it; whether that was so."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _delete(path: Path) -> bool:
    """Deletes a file unless someone reads or fetches it; whether it is gone."""
    file = _open(path)
    if file is None:
        return True
    with file:
        if not _lock(file, fcntl.LOCK_EX):
            return False
        path.unlink(missing_ok=True)
        return True
