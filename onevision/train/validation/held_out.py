"""Held-out samples and a learner -> the mean loss of their answers' tokens.

Neither weights nor random streams change, so a run that measures ends with the same weights as one
that does not (unless it stops early, or keeps the best).
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from onevision.data.loader import LoadedPack, Loader
from onevision.data.order import Order
from onevision.data.packs import pack
from onevision.data.plan import Plan
from onevision.data.quarantine import Quarantine
from onevision.data.samples import SampleReader
from onevision.train.evaluation import preserve_state
from onevision.train.feed import MicroBatch, empty_micro_batch, pack_rows
from onevision.train.learner import Learner
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes, compute_once
from onevision.train.validation.split import (
    Held,
    hold_out_others,
    hold_out_share,
    parse_share,
    restrict_to,
)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out samples of a run, in a fixed order."""

    reader: SampleReader
    plan: Plan
    options: RunOptions
    processes: Processes
    quarantine: Quarantine

    @property
    def num_samples(self) -> int:
        """Samples held out."""
        return len(self.reader.mixture)

    def micro_batches(self) -> Iterator[MicroBatch | None]:
        """Yields this process's share; None where other processes have one more."""
        order = Order(self.reader.mixture, seed=0, epoch=0)
        packs = pack(self.plan.lengths(order), max_tokens=self.reader.max_tokens)
        mine = range(self.processes.rank, len(packs), self.processes.count)
        loader = Loader(
            reader=self.reader,
            order=order,
            packs=packs,
            quarantine=self.quarantine,
            num_workers=self.options.num_workers,
            max_seconds=self.options.decode_seconds,
        )
        for one in loader.load(list(mine)):
            yield self._micro_batch(one) if one.rows else None
        if len(mine) < -(-len(packs) // self.processes.count):
            yield None

    def _micro_batch(self, one: LoadedPack) -> MicroBatch:
        return pack_rows(
            one.rows,
            self.reader.processor.config,
            samples=[self.reader.locate(dataset, row) for dataset, row in one.samples],
            sources=[dataset for dataset, _ in one.samples],
        )

    def measure_loss(self, learner: Learner, report_alive: Callable[[], object]) -> float:
        """Returns the mean loss over all held-out tokens; every process calls it."""
        device, total, count = self.processes.device, 0.0, 0
        autocast = (
            torch.autocast(device.type, torch.bfloat16)
            if self.options.precision == "bf16"
            else nullcontext()
        )
        with preserve_state(learner.network), torch.no_grad(), autocast:
            for one in self.micro_batches():
                if one is None and not self.processes.shards:
                    continue
                if one is None:  # the others gather weights
                    one = empty_micro_batch(crop_size=learner.network.vision_encoder.crop_size)
                weights = torch.zeros(len(one.owners), device=device)
                losses = learner(one.to(device), weights).losses
                total, count = total + float(losses.double().sum()), count + len(losses)
                report_alive()
        total, count = self.processes.sum(total, count)
        return total / max(1, count)


def split_once(
    reader: SampleReader,
    plan: Plan,
    *,
    options: RunOptions,
    processes: Processes,
    open_other: Callable[[Path], tuple[SampleReader, Plan]],
    warn: Callable[[str], object],
) -> tuple[Plan, SampleReader, Plan]:
    """Splits a plan in the first process: returns the plan to learn from, and what is held out.

    `open_other` opens and plans a file of held-out samples. Raises ConfigError, DataError.
    """
    assert options.held_out is not None, "nothing is held out"
    share = parse_share(options.held_out)
    theirs = None if share is not None else open_other(Path(options.held_out))

    def work(report_alive: Callable[[], None]) -> bytes:
        del report_alive
        if share is not None:
            return hold_out_share(reader, plan, share=share).to_bytes()
        assert theirs is not None
        return hold_out_others(reader, plan, other=theirs[0], others=theirs[1]).to_bytes()

    held = Held.from_bytes(
        compute_once(
            processes,
            work,
            patience_seconds=options.patience_seconds,
            what="holding samples out",
        )
    )
    if held.divided:
        warn(
            "nearly all samples share pictures with others, so those held out show pictures that "
            "are learned from; give a file of other samples as held_out for a fair measure"
        )
    learned = Plan(
        datasets=tuple(one.keep(m) for one, m in zip(plan.datasets, held.learned, strict=True))
    )
    if theirs is not None:
        dropped = _count(plan) - _count(learned)
        if dropped:
            warn(
                f"{dropped:,} samples show what the held-out file {options.held_out} shows, and "
                "are not learned from"
            )
        return learned, *restrict_to(*theirs, held.held_out)
    return learned, *restrict_to(reader, plan, held.held_out)


def _count(plan: Plan) -> int:
    return sum(int(one.usable.sum()) for one in plan.datasets)
