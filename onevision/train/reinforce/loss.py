"""Rewards -> advantages; log-probabilities and advantages -> the loss of GRPO, a figure a token.

How much likelier a token has become since its answer was sampled, times how much better the answer
was than the others to its prompt, up to a limit (arXiv 2402.03300; clipped wider upwards as in
arXiv 2503.14476). A weight corrects what the engine computed otherwise than the trainer
(arXiv 2505.24298, equation 5).
"""

from collections.abc import Sequence
from statistics import fmean, pstdev

import torch
from torch import Tensor

from onevision.train.reinforce.config import ReinforceConfig

EPSILON = 1e-5


def group_advantages(
    rewards: Sequence[float | None], *, bias: float = 0.0, scale: float = 1.0
) -> list[float]:
    """Returns how much better than its group each answer is, in its standard deviations.

    (r - mean) / (std + 1e-5) over the answers to one prompt, r = scale * (reward + bias); the
    deviation is that of the population. Answers without a reward (None) are left out and get 0.
    """
    known = [scale * (one + bias) for one in rewards if one is not None]
    if not known:
        return [0.0] * len(rewards)
    mean, deviation = fmean(known), pstdev(known)
    return [
        0.0 if one is None else (scale * (one + bias) - mean) / (deviation + EPSILON)
        for one in rewards
    ]


def normalise_batch(advantage: float, *, count: float, total: float, squares: float) -> float:
    """Returns an advantage at mean 0 and deviation 1 over the tokens of a step.

    `count`, `total` and `squares` are the number of tokens, and the sums of their advantages and
    their squares.
    """
    mean = total / max(count, 1.0)
    variance = max(squares / max(count, 1.0) - mean**2, 0.0)
    return (advantage - mean) / (variance**0.5 + EPSILON)


def grpo_terms(
    policy: Tensor,
    proximal: Tensor,
    behaviour: Tensor,
    advantages: Tensor,
    *,
    config: ReinforceConfig,
    reference: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the loss of every token [L], and three figures of it without gradient [L, 3].

    Log-probabilities [L] of the tokens: `policy` under the weights that learn, `proximal` under
    those that sampled, by the trainer, `behaviour` by the engine, `reference` under the first ones.

        ratio = exp(policy - proximal),  weight = exp(proximal - behaviour)
        loss  = -weight * min(ratio * A, clip(ratio, 1 - low, 1 + high) * A)

    FIDELITY: as in AReaL, a token whose weight exceeds `weight_cap` is left out, not reduced. With
    a `reference`, `kl_weight` times exp(r) - r - 1, r = reference - policy, is added. The figures
    are 1 if the clipped side is the smaller, 1 if the token is left out, and the estimate
    ratio - 1 - log(ratio) of how far the policy has moved.
    """
    change = policy - proximal
    ratio = change.exp()
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    gain, limited = ratio * advantages, clipped * advantages
    weight = (proximal - behaviour).detach().exp()
    stays = weight <= config.weight_cap
    losses = -torch.where(stays, weight, 0.0) * torch.minimum(gain, limited)
    if reference is not None:
        distance = reference - policy
        losses = losses + config.kl_weight * (distance.exp() - distance - 1)
    figures = [limited < gain, ~stays, (ratio - 1 - change).detach()]
    return losses, torch.stack([one.to(losses.dtype).detach() for one in figures], 1)
