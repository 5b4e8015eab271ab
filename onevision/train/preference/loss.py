"""Log-probabilities of pairs of answers -> the DPO loss, which makes chosen answers likelier.

How much likelier each answer has become than under the reference decides the loss, so the model
learns which of two answers is better without forgetting what it could say (arXiv 2305.18290). The
reference's log-probabilities enter as numbers; `reference.py` computes them once.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from onevision.batch import TrainingBatch
from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.train.preference.feed import PairBatch

# Scored positions whose logits exist at a time: 256 x 152,064 in fp32 are 149 MiB.
CHUNK_POSITIONS = 256
# The columns of `dpo_terms`.
TERMS = ("preference_loss", "sft_loss", "chosen_reward", "rejected_reward", "accuracy")


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """How strongly answers are pushed apart. The defaults are those of the reference's script."""

    # The price of moving away from the reference; a larger one keeps the model nearer to it.
    beta: float = 0.1
    # Weight of the chosen answer's cross-entropy, which keeps that answer likely in itself.
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ConfigError(f"PreferenceConfig.beta is {self.beta}; expected more than 0")
        if not (math.isfinite(self.sft_weight) and self.sft_weight >= 0):
            raise ConfigError(
                f"PreferenceConfig.sft_weight is {self.sft_weight}; expected 0 or more"
            )


def dpo_terms(policy: Tensor, reference: Tensor, *, beta: float, chosen_tokens: Tensor) -> Tensor:
    """Returns five figures for each of P pairs [P, 5], the columns `TERMS`.

    `policy` and `reference` [P, 2] are log-probabilities of whole answers, chosen ones first;
    `chosen_tokens` [P] counts the tokens of the chosen ones. The figures are
    -log sigmoid(beta * margin) (equation 7 of arXiv 2305.18290), with the margin
    (policy - reference) of the chosen answer less that of the rejected one; the chosen answer's
    cross-entropy per token; both answers' rewards, beta * (policy - reference); and 1 if the chosen
    answer's reward is higher, otherwise 0.
    """
    rewards = beta * (policy - reference)
    margin = rewards[:, 0] - rewards[:, 1]
    preferred = -F.logsigmoid(margin)  # finite for any margin, unlike log(sigmoid)
    sft = -policy[:, 0] / chosen_tokens
    right = (margin > 0).to(margin.dtype)
    return torch.stack([preferred, sft, rewards[:, 0], rewards[:, 1], right], 1)


def compute_log_probabilities(network: LlavaNetwork, pairs: PairBatch) -> Tensor:
    """Returns log p(answer | prompt) [P, 2] in fp32: of the chosen answers, of the rejected ones.

    An answer's is the sum over its tokens and the token that ends it.
    """
    scores = compute_token_log_probabilities(network, pairs.batch)
    answers = scores.split(pairs.num_tokens.flatten().tolist())
    return torch.stack([answer.sum() for answer in answers]).view(-1, 2)


def compute_token_log_probabilities(network: LlavaNetwork, batch: TrainingBatch) -> Tensor:
    """Returns log p of every labelled token [L] in fp32."""
    visual_tokens = network.encode(batch.pixel_values, batch.layouts)
    x = network.place(batch.input_ids, batch.visual_mask, visual_tokens)
    hidden = network.run(x, batch.position_ids, mask=batch.mask)
    scored = hidden.flatten(0, 1)[batch.sources]  # [L, D]
    chunks = zip(scored.split(CHUNK_POSITIONS), batch.targets.split(CHUNK_POSITIONS), strict=True)
    # Logits are computed again in the backward pass rather than kept for all answers.
    return torch.cat(
        [checkpoint(_log_probabilities, network, *chunk, use_reentrant=False) for chunk in chunks]
    )


def _log_probabilities(network: LlavaNetwork, hidden: Tensor, targets: Tensor) -> Tensor:
    """Returns log p(target) [L] in fp32 for hidden states [L, D]."""
    return -F.cross_entropy(network.head(hidden).float(), targets, reduction="none")
