"""An order of samples -> what it makes the cache of shards fetch, and whether that is too much."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onevision.data.mixture import Mixture
from onevision.data.order import Order
from onevision.data.packs import Packs
from onevision.data.remote.ahead import ShardMap
from onevision.data.remote.cache import LIMIT_VARIABLE, open_cache, show_size
from onevision.data.remote.shard import Shard
from onevision.plural import counted

# Packs whose shards are tried against the limit of the cache.
PACKS_TRIED = 4096
# A cache is too small if it fetches so many times what a larger one would.
TOO_MANY = 1.5


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What an order of shards makes a cache fetch."""

    num_bytes: int  # of different shards
    fetched_bytes: int

    @property
    def repeats(self) -> float:
        """How often a shard is fetched on average."""
        return self.fetched_bytes / max(1, self.num_bytes)


def list_shards(mixture: Mixture) -> Mapping[str, str]:
    """Returns the address of every shard, and its size and version."""
    return {shard.address: shard.state for one in mixture.datasets for shard in one.source.shards}


def describe_shards(mixture: Mixture) -> list[str]:
    """Returns a line for each data set whose shards lie in a store."""
    lines: list[str] = []
    for one in mixture.datasets:
        if shards := one.source.shards:
            size = show_size(sum(shard.size for shard in shards))
            lines.append(
                f"{one.entry.name}: {counted(len(shards), 'shard')}, {size}, read through "
                f"a cache of {open_cache().describe()}"
            )
    return lines


def describe_traffic(mixture: Mixture, order: Order, packs: Packs) -> str:
    """Returns a warning if the cache is too small for an order; "" if it is not.

    The first packs are tried against the cache, and against larger ones.
    """
    shards = ShardMap([one.source for one in mixture.datasets])
    if not shards:
        return ""
    uses: list[Shard] = []
    for number in range(min(len(packs), PACKS_TRIED)):
        positions = packs[number]
        datasets, rows = order.datasets[positions], order.rows[positions]
        uses += shards.shards_of(zip(datasets.tolist(), rows.tolist(), strict=True))
    limit = open_cache().max_bytes
    traffic = count_traffic(uses, max_bytes=limit)
    if traffic.repeats <= TOO_MANY:
        return ""
    enough = limit
    while count_traffic(uses, max_bytes=enough).repeats > TOO_MANY:
        enough *= 2
    return (
        f"the cache of shards ({open_cache().describe()}) is too small for this order: each shard "
        f"is fetched {traffic.repeats:,.1f} times on average; {LIMIT_VARIABLE}="
        f"{enough / 2**30:,.3g} would do, or smaller shards"
    )


def count_traffic(uses: Sequence[Shard], *, max_bytes: int) -> Traffic:
    """Counts what is fetched if shards are used in this order, from an empty cache."""
    held: OrderedDict[Shard, None] = OrderedDict()
    total = fetched = 0
    for shard in uses:
        if shard in held:
            held.move_to_end(shard)
            continue
        fetched += shard.size
        total += shard.size
        held[shard] = None
        while total > max_bytes and len(held) > 1:
            total -= held.popitem(last=False)[0].size
    return Traffic(num_bytes=sum(shard.size for shard in set(uses)), fetched_bytes=fetched)
