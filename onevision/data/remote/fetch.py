"""A shard of a store -> its bytes in a file, all of them and of the version that was listed."""

import time
from typing import BinaryIO

from onevision.data.remote.shard import Shard, open_shard_store, read_shard
from onevision.data.remote.store import open_file, reading
from onevision.errors import DataError, OneVisionError

BLOCK_BYTES = 8 * 2**20
# Seconds to wait after a failure; the last one is raised. Stores have retries of their own, too.
WAITS_SECONDS = (1.0, 5.0)


def copy_shard(shard: Shard, target: BinaryIO) -> None:
    """Writes the bytes of a shard into an unbuffered file, again if the connection breaks.

    Raises DataError if the shard is gone, refused, or another one by now; OSError if the file
    cannot be written.
    """
    for seconds in (*WAITS_SECONDS, None):
        try:
            with reading(shard.address):
                _copy_once(shard, target)
            check_unchanged(shard)
        except DataError as error:
            gone = isinstance(error.__cause__, FileNotFoundError | PermissionError)
            if seconds is None or gone or error.__cause__ is None:
                raise
            time.sleep(seconds)
        except _UnwrittenError as error:
            raise error.problem from error
        else:
            return


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
