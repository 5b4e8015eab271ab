"""Packs of an epoch -> packed rows, decoded by worker processes.

What is loaded depends on the order and the numbers of the packs alone, so a run can continue with
other workers or other ranks.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onevision.data.order import Order
from onevision.data.packing import PackedRow
from onevision.data.packs import Packs
from onevision.data.quarantine import BadSample, Quarantine
from onevision.data.remote.ahead import ShardMap, read_ahead
from onevision.data.remote.shard import Shard
from onevision.data.samples import SampleReader
from onevision.data.workers import MAX_SECONDS, Workers


@dataclass(frozen=True, kw_only=True)
class LoadedPack:
    """One pack: the rows of its samples, to be joined, and how many samples are missing."""

    pack: int
    rows: tuple[PackedRow, ...]
    samples: tuple[tuple[int, int], ...]  # data set and row of each
    num_holes: int


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Loads packs of one epoch."""

    reader: SampleReader
    order: Order
    packs: Packs
    quarantine: Quarantine
    num_workers: int = 2
    # Packs that are decoded before they are asked for.
    packs_ahead: int = 2
    # Of a worker for one sample.
    max_seconds: float = MAX_SECONDS

    def load(self, packs: Sequence[int], *, workers: Workers | None = None) -> Iterator[LoadedPack]:
        """Yields these packs in this order, by `workers` of the caller's or by its own.

        Raises DataError if too many samples are bad.
        """
        if workers is not None:
            yield from self._load(packs, workers)
            return
        with Workers(
            self.reader, num_workers=self.num_workers, max_seconds=self.max_seconds
        ) as own:
            yield from self._load(packs, own)

    def _load(self, packs: Sequence[int], workers: Workers) -> Iterator[LoadedPack]:
        ahead: deque[int] = deque()
        shards = ShardMap([one.source for one in self.reader.mixture.datasets])

        def shards_of(place: int) -> list[Shard]:
            return shards.shards_of(self._samples(packs[place])) if shards else []

        with read_ahead(shards_of, num_packs=len(packs)) as fetching:
            for number in range(len(packs)):
                while len(ahead) <= self.packs_ahead and number + len(ahead) < len(packs):
                    place = number + len(ahead)
                    fetching.reach(place)
                    workers.submit(self._samples(packs[place]))
                    ahead.append(packs[place])
                yield self._collect(workers, ahead.popleft())

    def _samples(self, pack: int) -> list[tuple[int, int]]:
        positions = self.packs[pack]
        datasets, rows = self.order.datasets[positions], self.order.rows[positions]
        return list(zip(datasets.tolist(), rows.tolist(), strict=True))

    def _collect(self, workers: Workers, pack: int) -> LoadedPack:
        rows: list[PackedRow] = []
        good: list[tuple[int, int]] = []
        samples = self._samples(pack)
        for dataset, row in samples:
            result = workers.result()
            if isinstance(result, PackedRow):
                rows.append(result)
                good.append((dataset, row))
                continue
            name = self.reader.mixture.datasets[dataset].entry.name
            self.quarantine.add(BadSample(source=name, row=row, reason=result))
        return LoadedPack(
            pack=pack, rows=tuple(rows), samples=tuple(good), num_holes=len(samples) - len(rows)
        )
