"""The loop: a feed, a learner and an optimiser -> steps, until the samples are used up."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onevision.batch import TrainingBatch
from onevision.errors import TrainingError
from onevision.train.context.rows import share_rows
from onevision.train.feed import Feed, MicroBatch, empty_micro_batch
from onevision.train.learner import Learner
from onevision.train.optim import AnyOptimizer, gradient_norm, set_stage_rate
from onevision.train.options import RunOptions
from onevision.train.parallel import Processes
from onevision.train.report.metrics import StepMetrics, peak_memory_bytes
from onevision.train.stage import Stage

# A micro-batch, and the weight of each of its targets [L].
Work = tuple[MicroBatch, Tensor]


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; saved with it."""

    step: int = 0  # steps taken, skipped ones included
    updates: int = 0  # steps that changed the weights
    samples: int = 0
    skipped_in_a_row: int = 0


@dataclass(frozen=True, kw_only=True)
class ShareTotals:
    """What one process finds in its share of a step."""

    losses: Tensor  # [sources, 2] fp64: the sum over a source's targets, and their number
    statistics: Tensor  # [K] fp64, sums over all targets
    suspects: list[str]  # samples whose loss is not finite


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """What all processes together find in a step."""

    losses: Mapping[str, tuple[float, int]]  # of each source: sum over its targets, their number
    statistics: Mapping[str, float]  # means over all targets
    samples: int
    tokens: int
    supervised_tokens: int
    flops: float

    @property
    def targets(self) -> int:
        """Terms of the loss."""
        return sum(count for _, count in self.losses.values())

    @property
    def loss(self) -> float:
        """The mean over the targets: nats per supervised token, unless targets are others."""
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
        """`on_skip` is called for a skipped step with its number, the reason and suspect samples.

        `on_split` is called for a micro-batch that does not fit into this process's memory.
        `flops_of` counts the operations of a batch, for the metrics alone.
        """
        self.stage, self.learner, self.optimizer, self.feed = stage, learner, optimizer, feed
        self.processes, self.options = processes, options
        self.on_skip, self.on_split, self.flops_of = on_skip, on_split, flops_of
        self.progress = progress or Progress()
        self.parameters: list[nn.Parameter] = [
            p for group in optimizer.param_groups for p in group["params"]
        ]

    def steps(self) -> Iterator[StepMetrics]:
        """Takes the remaining steps, one each time the caller asks for the next.

        Raises TrainingError if too many steps in a row are skipped.
        """
        shares = self.feed.steps(self.progress.step)
        while self.progress.step < self.feed.num_steps:
            began = time.monotonic()
            share = share_rows(next(shares), self.processes)
            waited = time.monotonic() - began
            yield self._step(share, began=began, waited=waited)

    def _step(self, share: list[MicroBatch], *, began: float, waited: float) -> StepMetrics:
        progress, feed = self.progress, self.feed
        set_stage_rate(self.optimizer, self.stage, step=progress.step, of=feed.num_steps)
        totals, suspects = self._compute_gradients(share)
        norm = self._clip()
        problem = self._find_problem(totals, norm)
        if problem is None:
            self.optimizer.step()
            progress.updates, progress.skipped_in_a_row = progress.updates + 1, 0
        self.optimizer.zero_grad()
        progress.step, progress.samples = progress.step + 1, progress.samples + totals.samples
        if problem is not None:
            self._skip(problem, suspects, is_empty=not totals.samples)
        return StepMetrics(
            step=progress.step,
            num_steps=feed.num_steps,
            stage=self.stage.name,
            loss=totals.loss,
            loss_per_source={n: s / c for n, (s, c) in totals.losses.items() if c},
            learning_rates={g["name"]: g["lr"] for g in self.optimizer.param_groups},
            grad_norm=norm,
            samples=progress.samples,
            tokens=totals.tokens,
            supervised_tokens=totals.supervised_tokens,
            seconds=time.monotonic() - began,
            data_seconds=waited,
            memory_bytes=peak_memory_bytes(self.processes.device),
            flops=totals.flops,
            skipped=problem is not None,
            statistics=self.learner.step_metrics(totals.statistics),
        )

    def _compute_gradients(self, share: list[MicroBatch]) -> tuple[StepTotals, list[str]]:
        """Runs the share forward and backward; leaves the gradients of the whole step's mean.

        Also returns this process's samples whose loss is not finite.
        """
        work, missing = self._weigh(share), self._most(len(share)) - len(share)
        found = self._run_all(work)
        for _ in range(missing):
            self._run_empty()
        for parameter in self.parameters:  # without a gradient it is zero, on every process
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.processes.sum_gradients(self.parameters)
        suspects = [] if self.processes.place else found.suspects  # once of a group
        return self._sum_over_processes(share, found), suspects

    def _sum_over_processes(self, share: list[MicroBatch], found: ShareTotals) -> StepTotals:
        sources = self.feed.sources
        flops = sum(self.flops_of(one.batch) for one in share) if self.flops_of else 0.0
        *sums, samples, tokens, supervised, flops = self.processes.sum_rows(
            *found.losses.flatten().tolist(),
            *found.statistics.tolist(),
            sum(len(one.samples) for one in share),
            sum(one.batch.input_ids.numel() for one in share),
            sum(len(one.batch.targets) for one in share),
            flops,
        )
        totals, counts = sums[: 2 * len(sources) : 2], sums[1 : 2 * len(sources) : 2]
        means = [total / max(1, int(sum(counts))) for total in sums[2 * len(sources) :]]
        return StepTotals(
            losses={n: (s, int(c)) for n, s, c in zip(sources, totals, counts, strict=True)},
            statistics=dict(zip(self.learner.statistics, means, strict=True)),
            samples=int(samples),
            tokens=int(tokens),
            supervised_tokens=int(supervised),
            flops=flops,
        )

    def _run_all(self, work: list[Work]) -> ShareTotals:
        """Runs micro-batches, and halves of those that do not fit into memory."""
        while True:
            try:
                return self._accumulate(work)
            except _TooLargeError as error:
                (place,) = error.args
            # The error is gone by now, and with it the tensors of the failed pass.
            self.optimizer.zero_grad()  # some of its gradients may have been added
            if self.processes.device.type == "cuda":
                torch.cuda.empty_cache()
            one, weights = work[place]
            self.on_split(self.progress.step + 1, one)
            parts = one.halves()
            assert parts is not None
            sizes = [len(part.owners) for part in parts]
            work[place : place + 1] = zip(parts, weights.split(sizes), strict=True)

    def _accumulate(self, work: list[Work]) -> ShareTotals:
        """Runs micro-batches and sums what they find. Raises _TooLargeError."""
        losses = torch.zeros(len(self.feed.sources), 2, dtype=torch.float64)
        statistics = torch.zeros(len(self.learner.statistics), dtype=torch.float64)
        suspects: list[str] = []
        for place, (one, weight) in enumerate(work):
            try:
                own, extra = self._run(one, weight)
            except torch.OutOfMemoryError as error:
                # Others may wait for what this pass would have gathered or sent.
                if self.processes.waits or not self.learner.divisible or len(one.samples) < 2:
                    raise torch.OutOfMemoryError(f"{one}; {error}") from error
                raise _TooLargeError(place) from None
            sources = torch.tensor(one.sources)[one.owners]
            losses.index_add_(0, sources, torch.stack([own, torch.ones_like(own)], 1).double())
            if extra is not None:
                statistics += extra.double().sum(0)
            bad = one.owners[~own.isfinite()].unique().tolist()
            suspects += [one.samples[sample] for sample in bad]
        return ShareTotals(losses=losses, statistics=statistics, suspects=suspects)

    def _weigh(self, share: list[MicroBatch]) -> list[Work]:
        """Weighs targets so that all of the step count the same, or all of its micro-batches."""
        counts = [len(one.owners) for one in share]
        targets, batches = self.processes.sum_rows(sum(counts), sum(map(bool, counts)))
        scale = float(self.processes.averaged)
        # FIDELITY: the reference averages each micro-batch by itself, then the micro-batches.
        each = [
            scale / max(1.0, targets if self.options.loss_mean == "tokens" else count * batches)
            for count in counts
        ]
        weights = [torch.full((count,), one) for count, one in zip(counts, each, strict=True)]
        return list(zip(share, weights, strict=True))

    def _run(self, one: MicroBatch, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """Adds the gradients of a micro-batch.

        Returns the loss of every target [L] and its statistics [L, K], on the CPU.
        """
        device = self.processes.device
        with self._autocast():
            terms = self.learner(one.to(device), weights.to(device))
        if terms.loss.requires_grad:  # text alone teaches a projector nothing
            terms.loss.backward()
        return terms.losses.cpu(), None if terms.statistics is None else terms.statistics.cpu()

    def _run_empty(self) -> None:
        """Takes part while other processes have one more micro-batch."""
        if self.processes.shards:
            device, encoder = self.processes.device, self.learner.network.vision_encoder
            empty = empty_micro_batch(crop_size=encoder.crop_size).to(device)
            with self._autocast():
                terms = self.learner(empty, torch.zeros(0, device=device))
            terms.loss.backward()

    def _most(self, count: int) -> int:
        """Returns the largest number of micro-batches that a process has."""
        if not self.processes.shards:
            return count
        ranks = [0.0] * self.processes.count
        ranks[self.processes.rank] = float(count)
        return int(max(self.processes.sum(*ranks)))

    def _autocast(self) -> AbstractContextManager[object]:
        if self.options.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.processes.device.type, torch.bfloat16)

    def _clip(self) -> float:
        """Shortens the gradient to the stage's maximum; returns the norm it had."""
        norm = gradient_norm(self.parameters)
        if math.isfinite(norm) and norm > self.stage.max_grad_norm:
            for parameter in self.parameters:
                assert parameter.grad is not None
                parameter.grad.mul_(self.stage.max_grad_norm / (norm + 1e-6))
        return norm

    def _find_problem(self, totals: StepTotals, norm: float) -> str | None:
        """Returns why a step must not change the weights; the same on every process."""
        if not totals.samples:
            return "it holds no sample"
        if not math.isfinite(totals.loss):
            return f"the loss is {totals.loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        spike = self.options.max_spike
        if spike is not None and norm > spike:
            return f"the gradient's norm is {norm:.3g}, more than max_spike {spike:.3g}"
        return None

    def _skip(self, problem: str, suspects: Sequence[str], *, is_empty: bool) -> None:
        self.progress.skipped_in_a_row += not is_empty  # the quarantine has a limit of its own
        self.on_skip(self.progress.step, problem, suspects)
        if not is_empty and self.progress.skipped_in_a_row >= self.options.max_skipped:
            raise TrainingError(
                f"steps skipped in a row: {self.progress.skipped_in_a_row}, the last "
                f"because {problem}; see skipped.jsonl for samples, or lower the learning rate"
            )


class _TooLargeError(Exception):
    """A micro-batch that can be divided does not fit into memory; `args` is its place."""
