"""How answers are sampled and rewarded, and how far a step may go for them."""

import math
from dataclasses import dataclass

from onevision.errors import ConfigError
from onevision.generate.sampler import MAX_ANSWERS, SamplingOptions


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    """GRPO as LLaVA-OneVision-1.5-RL does it. Raises ConfigError if a value is out of range.

    Source: its AReaL configuration of 2025-12. There, answers are sampled while the model trains,
    by versions up to four steps old; here one after the other, for `steps_per_rollout` steps.
    """

    # Answers to each prompt, sampled at temperature 1 from one prefill.
    num_answers: int = 16
    # A longer answer is cut off, and rewarded as it stands.
    max_new_tokens: int = 4096
    # Optimiser steps that learn from the answers of one version of the model, each from its own
    # prompts; only the first of them learns from what the model would say now.
    steps_per_rollout: int = 4
    # Prompts that the engine answers at a time.
    prompts_at_once: int = 8

    # How much less likely a token may become in a rollout before its gradient ends: 1 - this.
    clip_low: float = 0.2
    # How much likelier: 1 + this. A larger room upwards keeps answers diverse (DAPO).
    clip_high: float = 0.28
    # A token that the trainer finds likelier than the engine by more than this factor is left out.
    weight_cap: float = 5.0
    # The price of moving away from the model that the run begins with; 0 does not load it again.
    kl_weight: float = 0.0

    # Added to a reward of 0 to 1, and then multiplied.
    reward_bias: float = -0.5
    # Of the sum.
    reward_scale: float = 10.0
    # Whether the advantages of a step are brought to mean 0 and deviation 1 over its tokens, too.
    normalise_batch: bool = True
    # Whether a reward reads what stands between <answer> and </answer>; without them it is 0.
    answer_tags: bool = False

    # Whether to answer all prompts first, and learn from those that are sometimes right.
    select: bool = False
    # Answers to each prompt for that: N of Pass@N.
    select_answers: int = 16
    # The least by which the best of N answers must beat their mean (Pass@N less Pass@1).
    select_gain: float = 0.1
    # The lowest and the highest mean reward of a prompt that is kept.
    select_range: tuple[float, float] = (0.05, 0.95)

    def __post_init__(self) -> None:
        for name, least, most in (
            ("num_answers", 2, MAX_ANSWERS),
            ("max_new_tokens", 1, 2**20),
            ("steps_per_rollout", 1, 1024),
            ("prompts_at_once", 1, 1024),
            ("clip_low", 0, 1),
            ("clip_high", 0, 100),
            ("weight_cap", 1, math.inf),
            ("kl_weight", 0, 1e6),
            ("reward_bias", -1e6, 1e6),
            ("select_answers", 2, MAX_ANSWERS),
            ("select_gain", 0, 1),
        ):
            if not least <= vars(self)[name] <= most:
                raise ConfigError(f"{name} is {vars(self)[name]}; expected {least} to {most}")
        if not 0 < self.reward_scale < math.inf:
            raise ConfigError(f"reward_scale is {self.reward_scale}; expected more than 0")
        low, high = self.select_range
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"select_range is {low},{high}; expected two rewards, 0 to 1")

    @property
    def sampling(self) -> SamplingOptions:
        """How the answers to a prompt are sampled, except for the seed.

        From the model's own distribution, so that their log-probabilities are the policy's.
        """
        return {
            "num_answers": self.num_answers,
            "max_new_tokens": self.max_new_tokens,
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": 0,
        }
