"""Pairs of answers -> the DPO loss: make the chosen answer likelier than the rejected one.

By how much each answer became likelier than under the reference decides the loss, so the model
learns which of two answers is better without forgetting what it could say (arXiv 2305.18290). The
reference's log-probabilities enter as numbers; `reference.py` has two ways to get them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.preference.data import PreferenceBatch

# Scored positions whose logits exist at a time: 256 x 152,064 in fp32 are 149 MiB.
CHUNK_POSITIONS = 256


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """How strongly answers are pushed apart. The defaults are the reference's script."""

    # How dear it is to move away from the reference; larger keeps nearer to it.
    beta: float = 0.1
    # Weight of the chosen answer's cross-entropy, which keeps it likely by itself.
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ConfigError(f"PreferenceConfig.beta is {self.beta}; expected more than 0")
        if not (math.isfinite(self.sft_weight) and self.sft_weight >= 0):
            raise ConfigError(
                f"PreferenceConfig.sft_weight is {self.sft_weight}; expected 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class PreferenceMetrics:
    """Means over the pairs of a batch. A reward is beta * log(policy / reference)."""

    preference_loss: float
    sft_loss: float  # cross-entropy of the chosen answer, per token
    chosen_reward: float
    rejected_reward: float
    accuracy: float  # share of pairs whose chosen answer has the higher reward

    @property
    def margin(self) -> float:
        """By how much the chosen answer's reward is higher."""
        return self.chosen_reward - self.rejected_reward


def preference_loss(
    network: LlavaNetwork, batch: PreferenceBatch, reference: Tensor, config: PreferenceConfig
) -> tuple[Tensor, PreferenceMetrics]:
    """Return the mean loss of P pairs, and what to watch.

    `reference` [P, 2] holds the reference's log-probabilities, in the order of
    `sequence_log_probabilities`. Micro-batches add up to one batch when weighted by their P.
    """
    terms = preference_terms(network, batch, reference, beta=config.beta)
    return _mean_loss(terms, sft_weight=config.sft_weight)


def preference_terms(
    network: LlavaNetwork, batch: PreferenceBatch, reference: Tensor, *, beta: float
) -> Tensor:
    """Return what `dpo_terms` says of P pairs [P, 5]; `reference` is as in `preference_loss`."""
    policy = sequence_log_probabilities(network, batch)
    chosen_tokens = batch.num_tokens[:, 0].to(policy.device)
    return dpo_terms(policy, reference.to(policy), beta=beta, chosen_tokens=chosen_tokens)


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    sft_weight: float,
    chosen_tokens: Tensor,
) -> tuple[Tensor, PreferenceMetrics]:
    """Return -log sigmoid(beta * margin) + sft_weight * cross-entropy, averaged over P pairs.

    All log-probabilities are [P], of whole answers; `chosen_tokens` [P] counts the tokens of the
    chosen ones. The first term is equation 7 of arXiv 2305.18290, with the margin
    (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected). The second is
    averaged over each answer's tokens, then over pairs, so that every pair counts the same however
    pairs are cut into batches.
    """
    policy = torch.stack([policy_chosen, policy_rejected], 1)
    reference = torch.stack([reference_chosen, reference_rejected], 1)
    terms = dpo_terms(policy, reference, beta=beta, chosen_tokens=chosen_tokens)
    return _mean_loss(terms, sft_weight=sft_weight)


def dpo_terms(policy: Tensor, reference: Tensor, *, beta: float, chosen_tokens: Tensor) -> Tensor:
    """Return five figures a pair [P, 5], from log-probabilities [P, 2], chosen answers first.

    -log sigmoid(beta * margin), the chosen answer's cross-entropy a token, its reward, the rejected
    answer's reward, and 1 where the chosen one's is higher.
    """
    rewards = beta * (policy - reference)
    margin = rewards[:, 0] - rewards[:, 1]
    preferred = -F.logsigmoid(margin)  # finite for any margin, unlike log(sigmoid)
    sft = -policy[:, 0] / chosen_tokens
    right = (margin > 0).to(margin.dtype)
    return torch.stack([preferred, sft, rewards[:, 0], rewards[:, 1], right], 1)


def _mean_loss(terms: Tensor, *, sft_weight: float) -> tuple[Tensor, PreferenceMetrics]:
    means = terms.mean(0)
    preferred, sft = means[0], means[1]
    figures = means.detach().tolist()  # one transfer
    metrics = PreferenceMetrics(
        preference_loss=figures[0],
        sft_loss=figures[1],
        chosen_reward=figures[2],
        rejected_reward=figures[3],
        accuracy=figures[4],
    )
    return preferred + sft_weight * sft, metrics


def sequence_log_probabilities(network: LlavaNetwork, batch: PreferenceBatch) -> Tensor:
    """Return log p(answer | prompt) [P, 2] in fp32: of the chosen answers, of the rejected ones.

    An answer's is the sum over its tokens and the token that ends it.
    """
    inputs = batch.batch
    visual_tokens = network.encode(inputs.pixel_values, inputs.layouts)
    x = network.place(inputs.input_ids, inputs.visual_mask, visual_tokens)
    hidden = network.run(x, inputs.position_ids, mask=inputs.mask)
    scored = hidden.flatten(0, 1)[inputs.sources]  # [L, D]
    chunks = zip(scored.split(CHUNK_POSITIONS), inputs.targets.split(CHUNK_POSITIONS), strict=True)
    # Logits are computed again on the way back rather than kept for all answers.
    scores = torch.cat(
        [checkpoint(_log_probabilities, network, *chunk, use_reentrant=False) for chunk in chunks]
    )
    answers = scores.split(batch.num_tokens.flatten().tolist())
    return torch.stack([answer.sum() for answer in answers]).view(-1, 2)


def _log_probabilities(network: LlavaNetwork, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return log p(target) [L] in fp32 for hidden states [L, D]."""
    return -F.cross_entropy(network.head(hidden).float(), targets, reduction="none")
