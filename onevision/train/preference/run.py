"""A run that learns which of two answers is better: its learner, its trainer, its reference.

    runs/dpo/
        reference.jsonl   the log-probabilities of all pairs before training
        ...               else as in run.py; lines of metrics.jsonl have margin and accuracy too

A step's targets are its pairs: every pair counts the same, however they are packed and dealt out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import Feed, MicroBatch
from onevision.train.learner import Learner
from onevision.train.optim import make_optimizer
from onevision.train.preference.data import PreferenceBatch
from onevision.train.preference.feed import PairBatch, PreferenceFeed
from onevision.train.preference.loss import PreferenceConfig, preference_terms
from onevision.train.preference.reference import (
    Reference,
    fingerprint,
    precompute_reference,
    read_reference,
    write_reference,
)
from onevision.train.report.metrics import StepMetrics
from onevision.train.run import Run
from onevision.train.snapshots import State, read_state
from onevision.train.trainer import StepTotals, Trainer, Work

REFERENCE = "reference.jsonl"


@dataclass(frozen=True, kw_only=True)
class PreferenceStepMetrics(StepMetrics):
    """What is measured of a step, means over its pairs among it; see `PreferenceMetrics`."""

    sft_loss: float
    chosen_reward: float
    rejected_reward: float
    margin: float
    accuracy: float


class PreferenceLearner(Learner):
    """The network and the loss of pairs in one forward pass."""

    def __init__(
        self, network: LlavaNetwork, *, encode_always: bool = False, config: PreferenceConfig
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        self.config = config

    def forward(
        self,
        batch: TrainingBatch | PreferenceBatch,
        weights: Tensor,
        reference: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the losses of P pairs, and `dpo_terms` of each [P, 5].

        `reference` [P, 2] has the reference's log-probabilities. Without pairs a batch is plain.
        """
        if isinstance(batch, TrainingBatch):
            return super().forward(batch, weights)
        assert reference is not None
        nothing = self._encode_nothing(batch.batch)
        terms = preference_terms(self.network, batch, reference, beta=self.config.beta)
        losses = terms[:, 0] + self.config.sft_weight * terms[:, 1]
        return (losses * weights).sum() + nothing, terms.detach()


class PreferenceTrainer(Trainer):
    """A trainer whose targets are pairs."""

    config: PreferenceConfig
    reference: Reference

    def _step(
        self, share: list[MicroBatch], *, began: float, waited: float
    ) -> PreferenceStepMetrics:
        metrics = super()._step(share, began=began, waited=waited)
        sft, chosen, rejected, right = (self.sums[1:5] / max(1, metrics.supervised_tokens)).tolist()
        measured = vars(metrics) | {"supervised_tokens": int(self.sums[5])}
        return PreferenceStepMetrics(
            **measured,
            sft_loss=sft,
            chosen_reward=chosen,
            rejected_reward=rejected,
            margin=chosen - rejected,
            accuracy=right,
        )

    def _accumulate(self, work: list[Work]) -> tuple[Tensor, list[str]]:
        self.sums = torch.zeros(6, dtype=torch.float64)  # of the terms, and of scored tokens
        return super()._accumulate(work)

    def _gradients(self, share: list[MicroBatch]) -> tuple[StepTotals, list[str]]:
        found = super()._gradients(share)
        self.sums = torch.tensor(self.processes.total(*self.sums.tolist()), dtype=torch.float64)
        return found

    def _run(self, one: MicroBatch, weights: Tensor) -> Tensor:
        """Add the gradients of some pairs; returns the loss of each [P] on the CPU."""
        assert isinstance(one, PairBatch)
        device = self.processes.device
        reference = self.reference.of(one.pairs).to(device)
        with self._precision():
            loss, terms = self.learner(one.pairs.to(device), weights.to(device), reference)
        loss.backward()
        terms = terms.cpu()
        self.sums[:5] += terms.double().sum(0)
        self.sums[5] += one.scored_tokens
        return terms[:, 0] + self.config.sft_weight * terms[:, 1]


class PreferenceRun(Run):
    """One process's part of a run on preferences."""

    def _make_trainer(self, network: LlavaNetwork, feed: Feed) -> Trainer:
        config = self.settings.preference
        assert config is not None
        assert isinstance(feed, PreferenceFeed)
        reference = self._reference(network, feed)
        trainer = PreferenceTrainer(
            self.stage,
            self._make_learner(network, partial(PreferenceLearner, config=config)),
            make_optimizer(network, self.stage, precision=self.options.precision),
            feed,
            processes=self.processes,
            options=self.options,
            on_skip=self.journal.skip,
            on_split=self.journal.split,
            flops_of=self._flops_of(),
        )
        trainer.config, trainer.reference = config, reference
        return trainer

    @property
    def content(self) -> State:
        assert isinstance(self.trainer, PreferenceTrainer)
        return {**super().content, "reference": self.trainer.reference.model}

    def _reference(self, network: LlavaNetwork, feed: PreferenceFeed) -> Reference:
        """Read the reference, or ask the network, which has learned nothing yet.

        Raises CheckpointError where the file is of another model.
        """
        path = self.output / REFERENCE
        if self.snapshot is not None:  # the network that it is of is no more; its name was saved
            content = read_state(self.snapshot).get("content", {})
            return read_reference(path, model=content.get("reference"))
        model = f"{fingerprint(network)}/{self.options.precision}"
        if path.is_file():
            return read_reference(path, model=model)
        low = self.options.precision == "bf16"
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=low):
            mine = precompute_reference(network, self._pairs(feed))
        return self._joined(replace(mine, model=model), path)

    def _pairs(self, feed: PreferenceFeed) -> Iterator[PreferenceBatch]:
        for one in feed.first_epoch():
            yield one.pairs.to(self.processes.device)

    def _joined(self, mine: Reference, path: Path) -> Reference:
        """Put together what each process has asked for, in a file that all of them read."""
        processes = self.processes
        shares = [path.with_name(f".{REFERENCE}.{rank}") for rank in range(processes.count)]
        write_reference(mine, shares[processes.rank])
        processes.all_well()
        if self.main:
            values = dict(mine.values)
            for share in shares:
                values |= read_reference(share, model=mine.model).values
            write_reference(Reference(model=mine.model, values=values), path)
        if not processes.all_well():
            raise CheckpointError(f"{path}: another process could not write it")
        shares[processes.rank].unlink()
        return read_reference(path, model=mine.model)
