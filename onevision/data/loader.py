"""Packs of an epoch -> training rows, decoded by worker processes, from any place on.

What comes next depends on the order and the packs alone: its state is the number of the next pack,
the same for every rank, so a run goes on where it stopped with other workers or other ranks.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onevision.data.order import Order
from onevision.data.packing import PackedRow
from onevision.data.packs import Packs
from onevision.data.quarantine import BadSample, Quarantine
from onevision.data.samples import SampleReader
from onevision.data.workers import SECONDS_EACH, Workers


@dataclass(frozen=True, kw_only=True)
class LoadedPack:
    """One pack: its samples, to be joined or padded, and how many stayed away."""

    pack: int
    rows: tuple[PackedRow, ...]
    samples: tuple[tuple[int, int], ...]  # data set and row of each
    num_holes: int


class Loader:
    """Walks one epoch's packs for one rank."""

    def __init__(
        self,
        reader: SampleReader,
        order: Order,
        packs: Packs,
        *,
        quarantine: Quarantine,
        num_workers: int = 2,
        packs_ahead: int = 2,
        seconds_each: float = SECONDS_EACH,
        rank: int = 0,
        ranks: int = 1,
        next_pack: int = 0,
    ) -> None:
        self.reader, self.order, self.packs = reader, order, packs
        self.quarantine, self.num_workers, self.packs_ahead = quarantine, num_workers, packs_ahead
        self.seconds_each = seconds_each
        self.rank, self.ranks = rank, ranks
        # The state: save it, and give it to another loader. Every rank's is the same after a step.
        self.next_pack = next_pack

    def __iter__(self) -> Iterator[LoadedPack]:
        """Give this rank's packs, one of every `ranks`; whole rounds only, so no rank waits."""
        last = len(self.packs) - self.ranks + 1
        rounds = range(self.next_pack, last, self.ranks)
        for begin, loaded in zip(
            rounds, self.load([begin + self.rank for begin in rounds]), strict=True
        ):
            self.next_pack = begin + self.ranks
            yield loaded

    def load(self, packs: Sequence[int]) -> Iterator[LoadedPack]:
        """Give these packs in this order, decoding ahead."""
        with Workers(
            self.reader, num_workers=self.num_workers, seconds_each=self.seconds_each
        ) as workers:
            ahead: deque[int] = deque()
            for number in range(len(packs)):
                while len(ahead) <= self.packs_ahead and number + len(ahead) < len(packs):
                    pack = packs[number + len(ahead)]
                    workers.submit(self._samples(pack))
                    ahead.append(pack)
                yield self._collect(workers, ahead.popleft())

    def _samples(self, pack: int) -> list[tuple[int, int]]:
        positions = self.packs[pack]
        parts, rows = self.order.parts[positions], self.order.rows[positions]
        return list(zip(parts.tolist(), rows.tolist(), strict=True))

    def _collect(self, workers: Workers, pack: int) -> LoadedPack:
        samples = self._samples(pack)
        results = [workers.result() for _ in samples]
        rows = [result for result in results if isinstance(result, PackedRow)]
        good = []
        for (part, row), result in zip(samples, results, strict=True):
            if isinstance(result, PackedRow):
                good.append((part, row))
                continue
            name = self.reader.mixture.parts[part].dataset.name
            self.quarantine.add(BadSample(source=name, row=row, reason=result))
        return LoadedPack(
            pack=pack,
            rows=tuple(rows),
            samples=tuple(good),
            num_holes=len(samples) - len(rows),
        )
