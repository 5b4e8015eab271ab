"""Pairs of answers -> the DPO loss and what to watch of it: a run that learns which is better.

    runs/dpo/
        reference.jsonl   log-probabilities of all pairs before training
        ...               otherwise as in run.py; metrics.jsonl has rewards and accuracy as well

A step's targets are its pairs: each counts the same, however they are packed and dealt out.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.feed import MicroBatch
from onevision.train.learner import Learner, LossTerms
from onevision.train.objectives.objective import Objective, RunContext
from onevision.train.preference.data import read_preferences
from onevision.train.preference.feed import PairBatch, PreferenceFeed
from onevision.train.preference.loss import (
    TERMS,
    PreferenceConfig,
    compute_log_probabilities,
    dpo_terms,
)
from onevision.train.preference.reference import Reference, obtain_reference


def make_preference(run: RunContext, *, media_root: Path | None = None) -> Objective:
    """Returns DPO over the pairs in the stage's `mixture`; `media_root` as in `read_preferences`.

    Raises ConfigError if the run has no `preference`, DataError if pairs cannot be read or are too
    long, CheckpointError if the directory holds the reference of another model.
    """
    stage, processes = run.config.stage, run.processes
    if run.config.preference is None or stage.mixture is None:
        raise ConfigError(f"stage {stage.name} has no pairs to learn from; use `onevision dpo`")
    path = Path(stage.mixture)
    feed = PreferenceFeed(
        stage,
        run.processor,
        read_preferences(path, root=media_root, num_frames=stage.num_frames),
        name=path.name,
        max_positions=run.config.target.language.max_positions,
        seed=run.config.options.seed,
        rank=processes.rank,
        ranks=processes.count,
    )
    reference = obtain_reference(run, feed)
    return Objective(
        feed=feed,
        make_learner=partial(PreferenceLearner, config=run.config.preference, reference=reference),
        fingerprints={"reference": reference.model},
    )


class PreferenceLearner(Learner):
    """The network and the loss of pairs in one forward pass."""

    statistics = TERMS

    def __init__(
        self,
        network: LlavaNetwork,
        *,
        config: PreferenceConfig,
        reference: Reference,
        encode_always: bool = False,
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        self.config, self.reference = config, reference

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns the weighted sum of the losses of P pairs, each of them, and `dpo_terms`."""
        if not isinstance(micro_batch, PairBatch):  # a process without work
            return super().forward(micro_batch, weights)
        nothing = self._encode_nothing(micro_batch)
        policy = compute_log_probabilities(self.network, micro_batch)
        terms = dpo_terms(
            policy,
            self.reference.look_up(micro_batch.keys).to(policy),
            beta=self.config.beta,
            chosen_tokens=micro_batch.num_tokens[:, 0].to(policy.device),
        )
        losses = terms[:, 0] + self.config.sft_weight * terms[:, 1]
        loss = (losses * weights).sum() + nothing
        return LossTerms(loss, losses.detach(), statistics=terms.detach())

    @staticmethod
    def step_metrics(means: Mapping[str, float]) -> dict[str, float]:
        """Returns the means over a step's pairs; a reward is beta * log(policy / reference)."""
        return {
            "sft_loss": means["sft_loss"],
            "chosen_reward": means["chosen_reward"],
            "rejected_reward": means["rejected_reward"],
            "margin": means["chosen_reward"] - means["rejected_reward"],
            "accuracy": means["accuracy"],
        }
