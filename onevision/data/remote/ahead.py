"""Packs to come -> their shards, fetched before they are read, in the order in which they are.

The shards of a pack are there before workers are asked for it, so that a slow store costs no sample
its time. Threads fetch those of later packs meanwhile.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from onevision.data.mixture import OpenDataset
from onevision.data.remote.cache import ShardCache, open_cache
from onevision.data.remote.shard import Shard
from onevision.data.sources import RecordSource

# Shards that are fetched ahead of what is read, at most.
SHARDS_AHEAD = 2
# How far ahead they are looked for, in packs.
MAX_PACKS_AHEAD = 4096


class ShardMap:
    """Which shards of stores hold the samples of a mixture."""

    def __init__(self, sources: Sequence[RecordSource]) -> None:
        self._shards = [tuple(source.shards) for source in sources]
        self._starts = [np.asarray(source.shard_starts) for source in sources]

    def __bool__(self) -> bool:
        return any(self._shards)

    def shards_of(self, samples: Iterable[tuple[int, int]]) -> list[Shard]:
        """Returns the shards of samples, (data set, row), each once, in the order of samples."""
        found: dict[Shard, None] = {}
        for dataset, row in samples:
            if shards := self._shards[dataset]:
                number = int(np.searchsorted(self._starts[dataset], row, side="right")) - 1
                found[shards[number]] = None
        return list(found)


class ReadAhead:
    """Fetches the shards of packs; `shards_of` lists those of a pack, by its place in the order.

    Its threads are daemons: a process that fails does not wait for the bytes of a slow store.
    """

    def __init__(
        self, shards_of: Callable[[int], Sequence[Shard]], *, num_packs: int, cache: ShardCache
    ) -> None:
        self.shards_of, self.num_packs, self.cache = shards_of, num_packs, cache
        # Shards that are fetched, or have been and are not yet read, and the first pack of each.
        self._ahead: dict[Shard, tuple[int, Future[None]]] = {}
        self._next = 0  # the first pack that has not been looked at
        self._turns = threading.Semaphore(SHARDS_AHEAD)
        self._is_closed = False

    def reach(self, place: int) -> None:
        """Returns once the shards of a pack are there. Raises DataError if one cannot be had."""
        self.look_ahead(place)
        for shard in self.shards_of(place):
            if shard in self._ahead:
                self._ahead.pop(shard)[1].result()
            self.cache.fetch(shard)  # at least, it counts as used
            self.look_ahead(place)

    def close(self) -> None:
        """Gives up what is not being fetched yet."""
        self._is_closed = True

    def look_ahead(self, place: int) -> None:
        """Begins to fetch the next shards that are not there, from a pack on.

        Never more than `SHARDS_AHEAD`, with those that wait to be read, as they take room.
        """
        self._ahead = {shard: one for shard, one in self._ahead.items() if one[0] >= place}
        self._next = max(self._next, place)
        while self._next < min(self.num_packs, place + MAX_PACKS_AHEAD):
            if len(self._ahead) >= SHARDS_AHEAD:
                return
            missing = [
                shard
                for shard in self.shards_of(self._next)
                if shard not in self._ahead and not self.cache.has(shard)
            ]
            room = SHARDS_AHEAD - len(self._ahead)
            for shard in missing[:room]:
                self._ahead[shard] = self._next, self._begin(shard)
            if len(missing) > room:
                return
            self._next += 1

    def _begin(self, shard: Shard) -> Future[None]:
        future: Future[None] = Future()
        threading.Thread(target=self._fetch, args=(shard, future), daemon=True).start()
        return future

    def _fetch(self, shard: Shard, future: Future[None]) -> None:
        with self._turns:
            if self._is_closed:
                future.cancel()
                return
            try:
                self.cache.fetch(shard)
            except BaseException as error:  # noqa: BLE001 raised where it is waited for
                future.set_exception(error)
            else:
                future.set_result(None)


def rows_of_few_shards(dataset: OpenDataset, *, count: int = 2) -> NDArray[np.int64]:
    """Returns the rows of the first shards that have any, or all rows if no shards hold them."""
    if not dataset.source.shards or not len(dataset.rows):
        return dataset.rows
    starts = np.asarray(dataset.source.shard_starts)
    shards = np.searchsorted(starts, dataset.rows, side="right")
    return dataset.rows[np.isin(shards, np.unique(shards)[:count])]


@contextmanager
def read_ahead(
    shards_of: Callable[[int], Sequence[Shard]],
    *,
    num_packs: int,
    cache: ShardCache | None = None,
) -> Iterator[ReadAhead]:
    """Yields what to tell of each pack before it is read; the cache is this machine's or another.

    What is not being fetched yet is given up at the end.
    """
    ahead = ReadAhead(shards_of, num_packs=num_packs, cache=cache or open_cache())
    try:
        yield ahead
    finally:
        ahead.close()
