"""The loop: a learner, a feed and an optimiser -> steps, until the stage has seen its samples."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from onevision.batch import TrainingBatch
from onevision.errors import TrainingError
from onevision.train.feed import Feed, MicroBatch
from onevision.train.learner import Learner, empty_batch
from onevision.train.optim import AnyOptimizer, set_learning_rate
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.report.metrics import StepMetrics, peak_memory_bytes
from onevision.train.stage import Stage

# A micro-batch, and what each of its targets counts [L].
Work = tuple[MicroBatch, Tensor]


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; saved with it."""

    step: int = 0  # steps that are over, skipped ones counted
    updates: int = 0  # steps that changed the weights
    samples: int = 0
    skipped_in_a_row: int = 0


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """What all processes together did in a step."""

    losses: Mapping[str, tuple[float, int]]  # of each source: sum over its targets, their number
    samples: int
    tokens: int
    flops: float

    @property
    def targets(self) -> int:
        """Supervised tokens of the step."""
        return sum(count for _, count in self.losses.values())

    @property
    def loss(self) -> float:
        """Nats a supervised token."""
        return sum(loss for loss, _ in self.losses.values()) / max(1, self.targets)


class Trainer:
    """Takes optimiser steps. Everything it needs is given; it reads and writes no file."""

    def __init__(
        self,
        stage: Stage,
        learner: Learner,
        optimizer: AnyOptimizer,
        feed: Feed,
        *,
        processes: Processes,
        options: RunOptions,
        progress: Progress | None = None,
        on_skip: Callable[[int, str, Sequence[str]], object] = lambda *_: None,
        on_split: Callable[[int, MicroBatch], object] = lambda *_: None,
        flops_of: Callable[[TrainingBatch], float] | None = None,
    ) -> None:
        """`on_skip` hears of a skipped step: its number, why, and which samples to look at.

        `on_split` hears of a micro-batch that this process's memory did not hold.
        `flops_of` counts the operations of a batch, for the metrics alone.
        """
        self.stage, self.learner, self.optimizer, self.feed = stage, learner, optimizer, feed
        self.processes, self.options, self.on_skip = processes, options, on_skip
        self.on_split = on_split
        self.flops_of = flops_of
        self.progress = progress or Progress()
        self.parameters: list[nn.Parameter] = [
            p for group in optimizer.param_groups for p in group["params"]
        ]

    def steps(self) -> Iterator[StepMetrics]:
        """Take the steps that are left, one each time the caller asks for more.

        Raises TrainingError when too many steps in a row had to be skipped.
        """
        shares = self.feed.steps(self.progress.step)
        while self.progress.step < self.feed.num_steps:
            began = time.monotonic()
            share = next(shares)
            waited = time.monotonic() - began
            yield self._step(share, began=began, waited=waited)

    def _step(self, share: list[MicroBatch], *, began: float, waited: float) -> StepMetrics:
        done, feed = self.progress, self.feed
        rates_at = done.step / feed.num_steps
        set_learning_rate(self.optimizer, progress=rates_at, warmup=self.stage.warmup)
        totals, suspects = self._gradients(share)
        norm = self._clip()
        problem = self._problem(totals, norm)
        if problem is None:
            self.optimizer.step()
            done.updates, done.skipped_in_a_row = done.updates + 1, 0
        self.optimizer.zero_grad()
        done.step, done.samples = done.step + 1, done.samples + totals.samples
        if problem is not None:
            self._skip(problem, suspects)
        return StepMetrics(
            step=done.step,
            num_steps=feed.num_steps,
            stage=self.stage.name,
            loss=totals.loss,
            loss_per_source={n: s / c for n, (s, c) in totals.losses.items() if c},
            learning_rates={g["name"]: g["lr"] for g in self.optimizer.param_groups},
            grad_norm=norm,
            samples=done.samples,
            tokens=totals.tokens,
            supervised_tokens=totals.targets,
            seconds=time.monotonic() - began,
            data_seconds=waited,
            memory_bytes=peak_memory_bytes(self.processes.device),
            flops=totals.flops,
            skipped=problem is not None,
        )

    def _gradients(self, share: list[MicroBatch]) -> tuple[StepTotals, list[str]]:
        """Run the share forwards and backwards; gradients are those of the whole step's mean."""
        processes = self.processes
        work, missing = self._work(share), self._most(len(share)) - len(share)
        sums, suspects = self._run_all(work)
        for _ in range(missing):
            self._run_empty()
        for parameter in self.parameters:  # no gradient is a gradient of zero, on any process
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        processes.add_gradients(self.parameters)
        samples = sum(len(one.samples) for one in share)
        tokens = sum(one.batch.input_ids.numel() for one in share)
        flops = sum(self.flops_of(one.batch) for one in share) if self.flops_of else 0.0
        *flat, all_samples, all_tokens, all_flops = processes.total(
            *sums.flatten().tolist(), samples, tokens, flops
        )
        pairs = zip(flat[::2], flat[1::2], strict=True)
        totals = StepTotals(
            losses={n: (s, int(c)) for n, (s, c) in zip(self.feed.sources, pairs, strict=True)},
            samples=int(all_samples),
            tokens=int(all_tokens),
            flops=all_flops,
        )
        return totals, suspects

    def _run_all(self, work: list[Work]) -> tuple[Tensor, list[str]]:
        """Run micro-batches, in halves where memory does not hold them.

        Returns of each source the sum of its losses and their number, and samples without a loss.
        """
        while True:
            try:
                return self._accumulate(work)
            except _TooLarge as error:
                place = error.place
            # The error is gone by now, and with it what the failed pass has held.
            self.optimizer.zero_grad()  # some of its gradients may have been added
            if self.processes.device.type == "cuda":
                torch.cuda.empty_cache()
            one, weights = work[place]
            self.on_split(self.progress.step + 1, one)
            parts = one.halves()
            assert parts is not None
            sizes = [len(part.owners) for part in parts]
            work[place : place + 1] = zip(parts, weights.split(sizes), strict=True)

    def _accumulate(self, work: list[Work]) -> tuple[Tensor, list[str]]:
        """Run micro-batches; as `_run_all`. Raises _TooLarge."""
        sums = torch.zeros(len(self.feed.sources), 2, dtype=torch.float64)
        suspects: list[str] = []
        for place, (one, weight) in enumerate(work):
            try:
                losses = self._run(one, weight)
            except torch.OutOfMemoryError as error:
                # Other processes of a sharded model wait for what this pass would have gathered.
                if self.processes.shards or not self.learner.divisible or len(one.samples) < 2:
                    raise torch.OutOfMemoryError(f"{one}; {error}") from error
                raise _TooLarge(place) from None
            names = torch.tensor(one.sources)[one.owners]
            sums.index_add_(0, names, torch.stack([losses, torch.ones_like(losses)], 1).double())
            bad = one.owners[~losses.isfinite()].unique().tolist()
            suspects += [one.samples[sample] for sample in bad]
        return sums, suspects

    def _work(self, share: list[MicroBatch]) -> list[Work]:
        """Say what each target counts: the same in the whole step, or in its micro-batch."""
        counts = [len(one.owners) for one in share]
        targets, batches = self.processes.total(sum(counts), sum(map(bool, counts)))
        # FSDP2 divides gradients by the number of processes.
        scale = float(self.processes.count) if self.processes.shards else 1.0
        # FIDELITY: the reference averages each micro-batch by itself, then the micro-batches.
        each = [
            scale / max(1.0, targets if self.options.loss_mean == "tokens" else count * batches)
            for count in counts
        ]
        weights = [torch.full((count,), one) for count, one in zip(counts, each, strict=True)]
        return list(zip(share, weights, strict=True))

    def _run(self, one: MicroBatch, weights: Tensor) -> Tensor:
        """Add the gradients of a micro-batch; returns the loss of every target [L] on the CPU."""
        device = self.processes.device
        with self._precision():
            loss, losses = self.learner(one.batch.to(device), weights.to(device))
        if loss.requires_grad:  # text alone teaches a projector nothing
            loss.backward()
        return losses.cpu()

    def _run_empty(self) -> None:
        """Take part where other processes have one micro-batch more."""
        if self.processes.shards:
            crop_size = self.learner.network.vision_encoder.crop_size
            batch = empty_batch(crop_size=crop_size, device=self.processes.device)
            with self._precision():
                loss, _ = self.learner(batch, torch.zeros(0, device=self.processes.device))
            loss.backward()

    def _most(self, count: int) -> int:
        """Return the largest number of micro-batches that a process has."""
        if not self.processes.shards:
            return count
        ranks = [0.0] * self.processes.count
        ranks[self.processes.rank] = float(count)
        return int(max(self.processes.total(*ranks)))

    def _precision(self) -> Any:  # Any: two kinds of context manager
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.processes.device.type, torch.bfloat16)

    def _clip(self) -> float:
        """Shorten the gradient to the stage's longest; returns the length it had."""
        norm = self.processes.gradient_norm(self.parameters)
        if math.isfinite(norm) and norm > self.stage.max_grad_norm:
            for parameter in self.parameters:
                assert parameter.grad is not None
                parameter.grad.mul_(self.stage.max_grad_norm / (norm + 1e-6))
        return norm

    def _problem(self, totals: StepTotals, norm: float) -> str | None:
        """Say why a step must not change the weights; the same on every process."""
        if not math.isfinite(totals.loss):
            return f"the loss is {totals.loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        spike = self.options.max_spike
        if spike is not None and norm > spike:
            return f"the gradient's norm is {norm:.3g}, more than max_spike {spike:.3g}"
        return None

    def _skip(self, problem: str, suspects: Sequence[str]) -> None:
        self.progress.skipped_in_a_row += 1
        self.on_skip(self.progress.step, problem, suspects)
        if self.progress.skipped_in_a_row >= self.options.max_skipped:
            raise TrainingError(
                f"{self.progress.skipped_in_a_row} steps in a row were skipped, the last because "
                f"{problem}; see skipped.jsonl for their samples, or lower the learning rate"
            )


class _TooLarge(Exception):
    """Memory does not hold a micro-batch that can be divided."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place


def take(steps: Iterator[StepMetrics], count: int) -> list[StepMetrics]:
    """Take some steps and stop."""
    return list(islice(steps, count))
