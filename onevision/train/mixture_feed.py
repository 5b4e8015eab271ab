"""A mixture on disk, planned and packed -> the steps of a stage."""

from collections.abc import Iterator
from pathlib import Path

from onevision.data.loader import LoadedPack, Loader
from onevision.data.manifest import fingerprint_sources
from onevision.data.order import Order
from onevision.data.packs import Packs, pack
from onevision.data.plan import Plan
from onevision.data.quarantine import Quarantine
from onevision.data.samples import SampleReader
from onevision.data.workers import MAX_SECONDS
from onevision.errors import DataError
from onevision.train.feed import MicroBatch, packed
from onevision.train.recipes import Stage


class MixtureFeed:
    """The packs of all epochs, dealt evenly to the steps, and within a step to the processes.

    Steps follow from the samples: ceil(samples * epochs / global batch), as without packing; step s
    of S sees packs [s P / S, (s + 1) P / S) of P.
    """

    def __init__(
        self,
        stage: Stage,
        reader: SampleReader,
        plan: Plan,
        *,
        seed: int,
        quarantine: Path | None = None,
        num_workers: int = 2,
        decode_seconds: float = MAX_SECONDS,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.stage, self.num_workers, self.decode_seconds = stage, num_workers, decode_seconds
        self.rank, self.ranks = rank, ranks
        self.reader = reader
        self.mixture = plan.restrict(reader.mixture)
        self.sources = tuple(one.entry.name for one in self.mixture.datasets)
        self.fingerprints = fingerprint_sources(reader.mixture, plan)
        self.orders = [Order(self.mixture, seed=seed, epoch=e) for e in range(stage.epochs)]
        self.packs: list[Packs] = [
            pack(plan.lengths(order), max_tokens=stage.max_tokens, seed=seed)
            for order in self.orders
        ]
        if not len(self.orders[0]):
            raise DataError(f"mixture {self.mixture.name!r}: no usable sample; check it first")
        self.num_steps = stage.num_steps(len(self.orders[0]))
        self.quarantine = Quarantine(
            directory=quarantine, num_samples=sum(len(order) for order in self.orders)
        )

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Give this process's share of every step from `first` to the last."""
        shares = [self._share(step) for step in range(first, self.num_steps)]
        loaded = self._load([place for share in shares for place in share])
        for share in shares:
            packs = [next(loaded) for _ in share]
            yield [self._micro_batch(one) for one in packs if one.rows]

    def _share(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, pack) of this process's packs of a step."""
        total = sum(map(len, self.packs))
        begin = step * total // self.num_steps
        end = (step + 1) * total // self.num_steps
        return [self._place(number) for number in range(begin + self.rank, end, self.ranks)]

    def _place(self, number: int) -> tuple[int, int]:
        for epoch, packs in enumerate(self.packs):
            if number < len(packs):
                return epoch, number
            number -= len(packs)
        raise AssertionError("a pack beyond the last epoch")

    def _load(self, places: list[tuple[int, int]]) -> Iterator[LoadedPack]:
        for epoch, order in enumerate(self.orders):
            numbers = [number for e, number in places if e == epoch]
            if numbers:
                yield from Loader(
                    reader=self.reader,
                    order=order,
                    packs=self.packs[epoch],
                    quarantine=self.quarantine,
                    num_workers=self.num_workers,
                    max_seconds=self.decode_seconds,
                ).load(numbers)

    def _micro_batch(self, loaded: LoadedPack) -> MicroBatch:
        return packed(
            loaded.rows,
            self.reader.processor.config,
            samples=[self.reader.locate(dataset, row) for dataset, row in loaded.samples],
            sources=[dataset for dataset, _ in loaded.samples],
        )
