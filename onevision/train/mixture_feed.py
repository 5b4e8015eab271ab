"""A mixture on disk -> planned once, packed, and dealt out to the steps of a stage."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from onevision.data.loader import LoadedPack, Loader
from onevision.data.manifest import apply_manifest, fingerprint_sources
from onevision.data.mixture import Mixture, open_mixture
from onevision.data.order import Order
from onevision.data.plan import REDUCTIONS, Plan
from onevision.data.planner import make_plan
from onevision.data.quarantine import FILE_NAME, BadSample, Quarantine
from onevision.data.remote.traffic import describe_traffic, list_shards
from onevision.data.samples import SampleReader
from onevision.data.styles import read_styles
from onevision.data.workers import Workers
from onevision.errors import DataError, InputError
from onevision.inputs.processor import Processor
from onevision.train.dealing import deal_packs
from onevision.train.feed import MicroBatch, pack_rows
from onevision.train.objectives.objective import RunContext
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes, compute_once
from onevision.train.stage import Stage
from onevision.train.validation.held_out import HeldOut, split_once


class MixtureFeed:
    """The packs of all epochs, dealt to the steps, and within a step to the processes.

    The number of steps follows from the samples, as without packing: ceil(samples * epochs /
    global batch). Which packs a step holds, `dealing.py` says.
    """

    def __init__(self, run: RunContext, reader: SampleReader, plan: Plan) -> None:
        stage, options = run.config.stage, run.config.options
        self.options, self.processes, self.reader = options, run.processes, reader
        held_out = None
        if options.held_out is not None:
            plan, other, held = split_once(
                reader,
                plan,
                options=options,
                processes=run.processes,
                open_other=lambda path: open_and_plan(run, path),
                warn=run.warn,
            )
            held_out = (other, held)
        self.mixture = plan.restrict(reader.mixture)
        self.sources = tuple(one.entry.name for one in self.mixture.datasets)
        self.fingerprints = fingerprint_sources(reader.mixture, plan)
        self.orders = [Order(self.mixture, seed=options.seed, epoch=e) for e in range(stage.epochs)]
        bad = list_bad_samples(reader, plan)
        self.quarantine = Quarantine(
            directory=run.output,
            num_samples=sum(len(order) for order in self.orders),
            max_share=options.max_bad_share,
        )
        self.quarantine.add_planned(bad, num_rows=len(reader.mixture))
        if bad:
            run.warn(
                f"{len(bad):,} of {len(reader.mixture):,} samples cannot be learned from and are "
                f"left out; the first is {bad[0].describe()}; {run.output / FILE_NAME} has all"
            )
        if cut := describe_reductions(plan):
            run.warn(
                f"to fit max_tokens {stage.max_tokens:,}, samples are cut: {cut}; set a larger "
                "max_tokens to learn them whole"
            )
        if not len(self.orders[0]):
            raise DataError(f"mixture {self.mixture.name!r}: no usable sample; check it first")
        self.held_out = None if held_out is None else self._hold_out(run, *held_out)
        self.num_steps = stage.num_steps(len(self.orders[0]))
        self.deal = deal_packs(
            [plan.lengths(order) for order in self.orders],
            num_steps=self.num_steps,
            global_batch=stage.global_batch,
            max_tokens=stage.max_tokens,
            seed=options.seed,
            num_processes=self.processes.count,
        )
        if told := describe_traffic(self.mixture, self.orders[0], self.deal.epochs[0]):
            run.warn(told)

    def steps(self, first: int) -> Iterator[list[MicroBatch]]:
        """Yields this process's share of every step from `first` to the last."""
        shares = [self._share(step) for step in range(first, self.num_steps)]
        loaded = self._load([place for share in shares for place in share])
        for share in shares:
            packs = [next(loaded) for _ in share]
            yield [self._micro_batch(one) for one in packs if one.rows]

    def _hold_out(self, run: RunContext, reader: SampleReader, plan: Plan) -> HeldOut:
        bad = Quarantine(
            directory=run.output,
            num_samples=len(reader.mixture),
            max_share=self.options.max_bad_share,
        )
        return HeldOut(
            reader=reader,
            plan=plan,
            options=self.options,
            processes=self.processes,
            quarantine=bad,
        )

    def _share(self, step: int) -> list[tuple[int, int]]:
        """Returns (epoch, pack) of this process's packs of a step."""
        mine = self.deal.packs_of(step)[self.processes.reader :: self.processes.count]
        return [self.deal.locate(number) for number in mine]

    def _load(self, places: list[tuple[int, int]]) -> Iterator[LoadedPack]:
        with Workers(
            self.reader,
            num_workers=self.options.num_workers,
            max_seconds=self.options.decode_seconds,
        ) as workers:  # the same in all epochs
            for epoch, order in enumerate(self.orders):
                numbers = [number for e, number in places if e == epoch]
                yield from Loader(
                    reader=self.reader,
                    order=order,
                    packs=self.deal.epochs[epoch],
                    quarantine=self.quarantine,
                ).load(numbers, workers=workers)

    def _micro_batch(self, loaded: LoadedPack) -> MicroBatch:
        return pack_rows(
            loaded.rows,
            self.reader.processor.config,
            samples=[self.reader.locate(dataset, row) for dataset, row in loaded.samples],
            sources=[dataset for dataset, _ in loaded.samples],
        )


def list_bad_samples(reader: SampleReader, plan: Plan) -> list[BadSample]:
    """Returns the samples that planning found to be unusable, and why."""
    return [
        BadSample(source=dataset.entry.name, row=fault.row, reason=fault.message)
        for dataset, one in zip(reader.mixture.datasets, plan.datasets, strict=True)
        for fault in one.faults
    ]


def describe_reductions(plan: Plan) -> str:
    """Returns how many samples lose what: "10 of 400 have fewer frames"; "" if none does."""
    usable = [one.reductions[one.usable] for one in plan.datasets]
    total = sum(map(len, usable))
    counts = {
        name: sum(int((one >> bit & 1).sum()) for one in usable)
        for bit, name in enumerate(REDUCTIONS)
    }
    return ", ".join(f"{n:,} of {total:,} have fewer {name}" for name, n in counts.items() if n)


def open_mixture_feed(run: RunContext) -> MixtureFeed:
    """Returns this process's feed of the stage's mixture; bad samples are noted in the output.

    Every process calls it. Raises InputError if the stage names no mixture, DataError if it cannot
    be used or does not fit the options' manifest.
    """
    reader, plan = open_and_plan(run, None)
    return MixtureFeed(run, reader, plan)


def open_and_plan(run: RunContext, path: Path | None) -> tuple[SampleReader, Plan]:
    """Opens and plans the stage's mixture, or another one by the stage's rules.

    Raises as `open_mixture_feed` does.
    """
    stage, options = run.config.stage, run.config.options
    if path is not None:
        stage, options = stage.learning_from(str(path)), replace(options, manifest=None)
    reader = open_reader(stage, run.processor, seed=options.seed, roots=options.media_roots)
    if path is None:
        run.agree_on_shards(list_shards(reader.mixture))
    return reader, plan_once(reader, run.processes, options)


def open_reader(
    stage: Stage,
    processor: Processor,
    *,
    seed: int,
    roots: Sequence[str] = (),
    opened: Mixture | None = None,
) -> SampleReader:
    """Opens the mixture of a stage, by the stage's rules; `opened` is one that is open already.

    Raises InputError, DataError.
    """
    if stage.mixture is None:
        raise InputError(f"stage {stage.name} names no data; give --mixture FILE")
    path = Path(stage.mixture)
    if opened is None:
        opened = open_mixture(path, seed=seed, roots=[Path(root) for root in roots])
    return SampleReader(
        mixture=opened,
        processor=processor,
        max_tokens=stage.max_tokens,
        template=stage.template,
        num_frames=stage.num_frames,
        label_rule="strict" if stage.labels == "answers" else "reference",
        styles=read_styles(path),
    )


def plan_once(reader: SampleReader, processes: Processes, options: RunOptions) -> Plan:
    """Plans a mixture in the first process; returns the same plan in all of them."""

    def work(report_alive: Callable[[], None]) -> bytes:
        plan = make_plan(reader, num_workers=options.num_workers, progress=lambda _: report_alive())
        if options.manifest is not None:
            plan = apply_manifest(reader.mixture, plan, Path(options.manifest))
        return shards + plan.to_bytes()

    listed = json.dumps(list_shards(reader.mixture)).encode()
    shards = hashlib.sha256(listed).digest()
    content = compute_once(
        processes,
        work,
        patience_seconds=options.patience_seconds,
        what="planning the mixture",
    )
    if not content.startswith(shards):
        raise DataError(
            "the first process found other shards at the mixture's addresses than this one; "
            "start again when no one writes there"
        )
    return Plan.from_bytes(content[len(shards) :])
