"""What a process of its own does, with few imports."""

from pathlib import Path

from onevision.data.remote.cache import ShardCache
from onevision.data.remote.listing import find_shards


def fetch_one(address: str, directory: Path) -> None:
    """Fetches a shard into a cache."""
    (shard,) = find_shards(address)
    ShardCache(directory=directory, max_bytes=10**7).fetch(shard)
