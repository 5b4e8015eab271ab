"""Held-out samples and a learner -> the mean loss of their answers' tokens.

Neither weights nor random streams change, so a run that measures ends with the same weights as one
that does not (unless it stops early, or keeps the best).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from onevision.data.loader import LoadedPack, Loader
from onevision.data.order import Order
from onevision.data.packs import pack
from onevision.data.plan import Plan
from onevision.data.quarantine import Quarantine
from onevision.data.samples import SampleReader
from onevision.plural import counted
from onevision.train.context.rows import share_rows
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

NUM_SUMS = 6  # of `sums_of`


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """The mean loss of all held-out tokens, and its standard error; None for a single sample."""

    mean: float
    standard_error: float | None


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
        mine = range(self.processes.reader, len(packs), self.processes.count)
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

    def measure_loss(self, learner: Learner, report_alive: Callable[[], object]) -> HeldOutLoss:
        """Measures the loss of all held-out tokens; every process calls it."""
        device, sums = self.processes.device, [0.0] * NUM_SUMS
        autocast = (
            torch.autocast(device.type, torch.bfloat16)
            if self.options.precision == "bf16"
            else nullcontext()
        )
        with preserve_state(learner.network), torch.no_grad(), autocast:
            for one in self._shared():
                if one is None and not self.processes.shards:
                    continue
                if one is None:  # the others gather weights
                    one = empty_micro_batch(crop_size=learner.network.vision_encoder.crop_size)
                weights = torch.zeros(len(one.owners), device=device)
                losses = learner(one.to(device), weights).losses
                sums = [a + b for a, b in zip(sums, sums_of(losses, one.owners), strict=True)]
                report_alive()
        if isinstance(learner, FSDPModule):  # only a backward pass would have done so
            learner.reshard()
        return mean_of_ratios(*self.processes.sum_rows(*sums))

    def _shared(self) -> Iterator[MicroBatch | None]:
        """Yields the shares of all processes that divide sequences with this one."""
        for one in self.micro_batches():
            yield from share_rows([one], self.processes)


def sums_of(losses: Tensor, owners: Tensor) -> tuple[float, ...]:
    """Returns how many samples there are, and sums over them: S, N, S^2, S N and N^2.

    S is a sample's summed loss, N its number of tokens.
    """
    _, owners, counts = owners.unique(return_inverse=True, return_counts=True)
    n = counts.double().cpu()
    s = torch.zeros_like(n).index_add_(0, owners.cpu(), losses.double().cpu())
    return (len(n), *(float(one.sum()) for one in (s, n, s * s, s * n, n * n)))


def mean_of_ratios(
    count: float, s: float, n: float, s_s: float, s_n: float, n_n: float
) -> HeldOutLoss:
    """Returns S / N and its standard error over samples.

    A ratio of sums, linearised (Cochran, Sampling Techniques, 1977, section 2.11).
    """
    mean = s / max(1.0, n)
    if count < 2:
        return HeldOutLoss(mean=mean, standard_error=None)
    squares = max(0.0, s_s - 2 * mean * s_n + mean * mean * n_n)
    return HeldOutLoss(
        mean=mean, standard_error=math.sqrt(squares * count / (count - 1)) / max(1.0, n)
    )


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
                f"not learned from: {counted(dropped, 'sample')} with what the held-out file "
                f"{options.held_out} shows"
            )
        return learned, *restrict_to(*theirs, held.held_out)
    return learned, *restrict_to(reader, plan, held.held_out)


def _count(plan: Plan) -> int:
    return sum(int(one.usable.sum()) for one in plan.datasets)
