"""What a store says of a file -> a shard: its address, size and version.

What is listed is what is learned: a shard whose size or version differs later is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onevision.data.remote.store import Store, open_store
from onevision.errors import DataError

EXPECTED = "an address such as s3://bucket/shards/{0000..0099}.tar"
# By which stores say that a file has changed, the surest first: a file's information has one.
VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "oid", "generation", "mtime", "created")

# Any: each store has fields of its own.
Info = Mapping[str, Any]


@dataclass(frozen=True)
class Shard:
    """A file of a store, as it was when it was listed."""

    address: str
    size: int  # bytes
    version: str

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.address.rpartition("/")[2]

    @property
    def identity(self) -> str:
        """A text that changes when the shard does."""
        return f"{self.address}:{self.size}:{self.version}"

    @property
    def state(self) -> str:
        """Size and version, without the address."""
        return f"{self.size:,} bytes, {self.version}"


def read_shard(address: str) -> Shard:
    """Returns a shard as it is now. Raises DataError, and whatever the store raises."""
    fs, path = open_shard_store(address)
    if address.startswith("hf://"):  # one question; else it lists the folder, and forgets it again
        return to_shard(fs.info(path, refresh=True, expand_info=True), address)
    fs.invalidate_cache()
    return to_shard(fs.info(path), address)


def open_shard_store(address: str) -> tuple[Store, str]:
    """Returns the store of shards, and the path in it. Raises DataError."""
    return open_store(address, what=address, expected=EXPECTED)


def to_shard(info: Info, address: str) -> Shard:
    """Returns a listed file as a shard. Raises DataError if its size is unknown or 0."""
    size = info.get("size")
    if not isinstance(size, int):
        raise DataError(
            f"{address}: the store does not say how large it is, so it cannot be kept within a "
            "limit; download it"
        )
    if not size:
        raise DataError(f"{address}: the shard is empty; write it again")
    field = next((name for name in VERSIONS if info.get(name) is not None), None)
    return Shard(address, size, "" if field is None else f"{field} {_text_of(info[field])}")


def _text_of(value: object) -> str:
    """Returns a version as text: quotes are no part of it, and times are seconds."""
    stamp = getattr(value, "timestamp", None)
    return repr(stamp()) if callable(stamp) else str(value).strip('"')
