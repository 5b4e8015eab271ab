"""A mixture on disk -> planned once, packed, and dealt out to the steps of a stage."""

from collections.abc import Callable, Iterator
from pathlib import Path

from onevision.data.loader import LoadedPack, Loader
from onevision.data.manifest import apply_manifest, fingerprint_sources
from onevision.data.mixture import open_mixture
from onevision.data.order import Order
from onevision.data.packs import Packs, pack
from onevision.data.plan import Plan
from onevision.data.planner import make_plan
from onevision.data.quarantine import Quarantine
from onevision.data.samples import SampleReader
from onevision.data.styles import read_styles
from onevision.errors import DataError, InputError
from onevision.inputs.processor import Processor
from onevision.train.feed import MicroBatch, pack_rows
from onevision.train.objective import RunContext
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes, compute_once
from onevision.train.stage import Stage


class MixtureFeed:
    """The packs of all epochs, dealt evenly to the steps, and within a step to the processes.

    The number of steps follows from the samples, as without packing: ceil(samples * epochs /
    global batch). Step s of S sees packs [s P / S, (s + 1) P / S) of P.
    """

    def __init__(self, run: RunContext, reader: SampleReader, plan: Plan) -> None:
        stage, options = run.config.stage, run.config.options
        self.options, self.processes, self.reader = options, run.processes, reader
        self.mixture = plan.restrict(reader.mixture)
        self.sources = tuple(one.entry.name for one in self.mixture.datasets)
        self.fingerprints = fingerprint_sources(reader.mixture, plan)
        self.orders = [Order(self.mixture, seed=options.seed, epoch=e) for e in range(stage.epochs)]
        self.packs: list[Packs] = [
            pack(plan.lengths(order), max_tokens=stage.max_tokens, seed=options.seed)
            for order in self.orders
        ]
        if not len(self.orders[0]):
            raise DataError(f"mixture {self.mixture.name!r}: no usable sample; check it first")
        self.num_steps = stage.num_steps(len(self.orders[0]))
        self.quarantine = Quarantine(
            directory=run.output, num_samples=sum(len(order) for order in self.orders)
        )

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Yields this process's share of every step from `first` to the last."""
        shares = [self._share(step) for step in range(first, self.num_steps)]
        loaded = self._load([place for share in shares for place in share])
        for share in shares:
            packs = [next(loaded) for _ in share]
            yield [self._micro_batch(one) for one in packs if one.rows]

    def _share(self, step: int) -> list[tuple[int, int]]:
        """Returns (epoch, pack) of this process's packs of a step."""
        total = sum(map(len, self.packs))
        begin = step * total // self.num_steps
        end = (step + 1) * total // self.num_steps
        rank, ranks = self.processes.rank, self.processes.count
        return [self._place(number) for number in range(begin + rank, end, ranks)]

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
                    num_workers=self.options.num_workers,
                    max_seconds=self.options.decode_seconds,
                ).load(numbers)

    def _micro_batch(self, loaded: LoadedPack) -> MicroBatch:
        return pack_rows(
            loaded.rows,
            self.reader.processor.config,
            samples=[self.reader.locate(dataset, row) for dataset, row in loaded.samples],
            sources=[dataset for dataset, _ in loaded.samples],
        )


def open_mixture_feed(run: RunContext) -> MixtureFeed:
    """Returns this process's feed of the stage's mixture; bad samples are noted in the output.

    Every process calls it. Raises InputError if the stage names no mixture, DataError if it cannot
    be used or does not fit the options' manifest.
    """
    options = run.config.options
    reader = open_reader(run.config.stage, run.processor, seed=options.seed)
    return MixtureFeed(run, reader, plan_once(reader, run.processes, options))


def open_reader(stage: Stage, processor: Processor, *, seed: int) -> SampleReader:
    """Opens the mixture of a stage, by the stage's rules. Raises InputError, DataError."""
    if stage.mixture is None:
        raise InputError(f"stage {stage.name} names no data; give --mixture FILE")
    path = Path(stage.mixture)
    return SampleReader(
        mixture=open_mixture(path, seed=seed),
        processor=processor,
        max_tokens=stage.max_tokens,
        template=stage.template,
        num_frames=stage.num_frames,
        styles=read_styles(path),
    )


def plan_once(reader: SampleReader, processes: Processes, options: RunOptions) -> Plan:
    """Plans a mixture in the first process; returns the same plan in all of them."""

    def work(report_alive: Callable[[], None]) -> bytes:
        plan = make_plan(reader, num_workers=options.num_workers, progress=lambda _: report_alive())
        if options.manifest is not None:
            plan = apply_manifest(reader.mixture, plan, Path(options.manifest))
        return plan.to_bytes()

    return Plan.from_bytes(
        compute_once(
            processes,
            work,
            patience_seconds=options.patience_seconds,
            what="planning the mixture",
        )
    )
