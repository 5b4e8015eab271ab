"""A shard of a store -> its bytes in a file, all of them and of the version that was listed."""

import time
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from onevision.data.remote.shard import Shard, open_shard_store, read_shard
from onevision.data.remote.store import open_file, reading
from onevision.errors import DataError, OneVisionError

T = TypeVar("T")
BLOCK_BYTES = 8 * 2**20
# Seconds to wait after a failure; then the last try. Stores have retries of their own, too.
WAITS_SECONDS = (1.0, 5.0)
# A try that got nothing for so long is the last: the store's own client has tried all the time.
MAX_SILENT_SECONDS = 120.0


def copy_shard(shard: Shard, target: BinaryIO) -> None:
    """Writes the bytes of a shard into an unbuffered file, again if the connection breaks.

    Raises DataError if the shard is gone, refused, or another one by now; OSError if the file
    cannot be written.
    """

    def copy() -> None:
        with reading(shard.address):
            _copy_once(shard, target)
        check_unchanged(shard)

    try:
        ask(copy, moves=lambda: target.tell() > 0)
    except _UnwrittenError as error:
        raise error.problem from error


def ask(act: Callable[[], T], *, moves: Callable[[], bool] = lambda: False) -> T:
    """Returns what an act returns that asks a store; asks again if the store has trouble.

    `moves` says whether the last try got anything; if not, a long one is the last. Raises the
    act's DataError: at once if something is missing, refused or wrong.
    """
    for seconds in WAITS_SECONDS:
        begin = time.monotonic()
        try:
            return act()
        except DataError as error:
            why = error.__cause__
            is_silent = not moves() and time.monotonic() - begin > MAX_SILENT_SECONDS
            if why is None or is_silent or isinstance(why, FileNotFoundError | PermissionError):
                raise
        time.sleep(seconds)
    return act()


def read_part(shard: Shard, begin: int, end: int) -> bytes:
    """Returns bytes `begin` to `end` of a shard, without the cache. Raises DataError."""
    fs, path = open_shard_store(shard.address)
    with reading(shard.address):
        part = fs.cat_file(path, start=max(0, begin), end=min(end, shard.size))
    assert isinstance(part, bytes), "stores are read in binary modes"
    return part


def check_unchanged(shard: Shard) -> None:
    """Raises DataError if a shard is not the one that was listed."""
    with reading(shard.address):
        now = read_shard(shard.address)
    if now != shard:
        raise DataError(
            f"{shard}: it has changed since it was listed ({shard.state}; now {now.state}); "
            "restore it, or start again with the new one"
        )


def _copy_once(shard: Shard, target: BinaryIO) -> None:
    fs, path = open_shard_store(shard.address)
    target.seek(0)
    copied = 0
    with open_file(fs, path) as source:
        while copied < shard.size and (block := source.read(BLOCK_BYTES)):
            copied += len(block)
            if copied <= shard.size:
                _write(target, block)
    if copied < shard.size:
        check_unchanged(shard)
        raise OSError(f"it ended after {copied:,} of {shard.size:,} bytes")
    if copied > shard.size:
        check_unchanged(shard)
        raise OSError(f"it continues after its {shard.size:,} bytes")


class _UnwrittenError(OneVisionError):
    """A file of this disk that cannot be written: no trouble of the store."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _write(target: BinaryIO, block: bytes) -> None:
    left = memoryview(block)
    try:
        while left:
            left = left[target.write(left) :]
    except OSError as error:
        raise _UnwrittenError(error) from error
