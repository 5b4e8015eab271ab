"""Prompts with rewards -> the loss of GRPO and what to watch of it.

runs/reinforce/
    selection.jsonl   Pass@1 and Pass@N of every prompt before training, if they are selected
    rollouts/         every answer that was sampled, with its reward
    ...               otherwise as in run.py; metrics.jsonl has rewards and lengths as well
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.checkpoint.load import inspect, load_network
from onevision.errors import ConfigError, DataError
from onevision.eval.judging.judge import Judge
from onevision.inputs.templates import end_ids, end_texts
from onevision.model.llava import LlavaNetwork
from onevision.plural import counted
from onevision.train.evaluation import preserve_state
from onevision.train.feed import MicroBatch
from onevision.train.learner import Learner, LossTerms
from onevision.train.objectives.objective import Objective, RunContext
from onevision.train.preference.loss import compute_token_log_probabilities
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import read_rewarded
from onevision.train.reinforce.feed import ReinforceFeed
from onevision.train.reinforce.loss import grpo_terms
from onevision.train.reinforce.rollouts import Sampler
from onevision.train.reinforce.rows import ANSWER_FIGURES, AnswerBatch
from onevision.train.reinforce.selection import obtain_selection
from onevision.train.stage import stage_config


def make_reinforce(
    run: RunContext, *, media_root: Path | None = None, judge: Judge | None = None
) -> Objective:
    """Returns GRPO over the prompts in the stage's `mixture`; `media_root` as in `read_rewarded`.

    Raises ConfigError if the run has no `reinforce` or its network cannot answer while it trains,
    DataError if prompts cannot be read, or none is worth learning from.
    """
    stage, processes, config = run.config.stage, run.processes, run.config.reinforce
    if config is None or stage.mixture is None:
        raise ConfigError(f"stage {stage.name} has no rewards; use `onevision reinforce`")
    _check_run(run)
    path = Path(stage.mixture)
    prompts = read_rewarded(path, root=media_root, num_frames=stage.num_frames)
    if judge is None and (asked := [one.id for one in prompts if one.type == "judge"]):
        raise DataError(
            f"{path}: {counted(len(asked), 'prompt')} of type judge, the first {asked[0]!r}; give "
            "--judge-url and --judge"
        )
    sampler = Sampler(
        network=run.network,
        model_config=stage_config(stage, run.config.target),
        processor=run.processor,
        config=config,
        seed=run.config.options.seed,
        judge=judge,
        warn=run.warn,
    )
    chosen = obtain_selection(run, prompts, sampler) if config.select else prompts
    scores = partial(_score, precision=run.config.options.precision)
    feed = ReinforceFeed(
        stage,
        run.processor,
        chosen,
        name=path.name,
        config=config,
        answers=sampler,
        max_positions=run.config.target.language.max_positions,
        seed=run.config.options.seed,
        output=run.output,
        processes=processes,
        proximal=partial(scores, run.network) if config.steps_per_rollout > 1 else None,
        reference=partial(scores, _load_first(run)) if config.kl_weight else None,
    )
    known = {} if judge is None else {"judge": judge.name}
    return Objective(
        feed=feed, make_learner=partial(ReinforceLearner, config=config), fingerprints=known
    )


class ReinforceLearner(Learner):
    """The network and the loss of sampled answers in one forward pass."""

    statistics = (*ANSWER_FIGURES, "clipped", "left_out", "distance")

    def __init__(
        self, network: LlavaNetwork, *, config: ReinforceConfig, encode_always: bool = False
    ) -> None:
        super().__init__(network, encode_always=encode_always)
        self.config = config

    def forward(self, micro_batch: MicroBatch, weights: Tensor) -> LossTerms:
        """Returns the weighted sum of the losses of L tokens, each of them, and their figures."""
        if not isinstance(micro_batch, AnswerBatch):  # a process without work
            return super().forward(micro_batch, weights)
        nothing = self._encode_nothing(micro_batch)
        policy = compute_token_log_probabilities(self.network, micro_batch.batch)  # [L]
        proximal, reference = micro_batch.proximal, micro_batch.reference
        losses, figures = grpo_terms(
            policy,
            policy.detach() if proximal is None else proximal.to(policy),
            micro_batch.behaviour.to(policy),
            micro_batch.advantages.to(policy),
            config=self.config,
            reference=None if reference is None else reference.to(policy),
        )
        loss = (losses * weights).sum() + nothing
        statistics = torch.cat([micro_batch.figures.to(figures), figures], 1)
        return LossTerms(loss, losses.detach(), statistics=statistics)

    @staticmethod
    def step_metrics(means: Mapping[str, float]) -> dict[str, float]:
        """Returns the means of a step, over answers, prompts or tokens; means of L tokens enter.

        `reward` and `best_reward` are 0 to 1, the latter of the best answer to each prompt;
        `answer_tokens` their length; `stopped` the share that ended by themselves; `informative`
        the share of prompts whose answers differ in reward; `clipped` and `left_out` are shares of
        tokens, `distance` the estimated divergence from the weights that sampled, in nats.
        """
        answers, groups = max(means["answers"], 1e-12), max(means["groups"], 1e-12)
        return {
            "reward": means["reward"] / answers,
            "best_reward": means["best"] / groups,
            "answer_tokens": 1 / answers,
            "stopped": means["stopped"] / answers,
            "informative": means["informative"] / groups,
            "clipped": means["clipped"],
            "left_out": means["left_out"],
            "distance": means["distance"],
        }


def _check_run(run: RunContext) -> None:
    """Refuses ways of training in which the network cannot answer. Raises ConfigError."""
    options, processor = run.config.options, run.processor
    for name, wrong, advice in (
        ("sharing=shard", run.processes.shards, "set sharing=replicate"),
        ("compiled=true", options.compiled, "leave it out"),
    ):
        if wrong:
            raise ConfigError(f"{name}: its network cannot answer while it trains; {advice}")
    template = processor.config.template
    if not end_ids(template, processor.tokenizer) and not end_texts(template):
        raise ConfigError(
            f"template {template} does not say when an answer ends; start from a model that chats"
        )


def _score(network: LlavaNetwork, batch: TrainingBatch, *, precision: str) -> Tensor:
    """Returns the log-probabilities of a batch's tokens [L], computed as in training."""
    device = network.language_model.device
    with (
        preserve_state(network),  # without dropout, as the engine
        torch.no_grad(),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
    ):
        return compute_token_log_probabilities(network, batch.to(device)).float().cpu()


def _load_first(run: RunContext) -> LlavaNetwork:
    """Loads the network that the run begins with once more, to stay near it."""
    (start,) = run.config.starts
    network = load_network(inspect(Path(start)), dtype=torch.float32)
    return network.to(run.processes.device).requires_grad_(False).eval()
