"""A stage of drawn samples -> what a sample of it takes: tokens and operations.

Arms are compared at the same number of operations, counted as in training (`train/cost.py`), the
vision encoder's too. Tokens alone would not do: a crop costs its encoder, however few are kept.
"""

from dataclasses import dataclass

from onevision.config import ModelConfig
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.cost.plan import batch_flops
from onevision.train.stage import Stage, stage_config
from onevision.train.words import FamilyFeed


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage takes on average for a sample, padding counted."""

    tokens: float
    operations: float


def cost_of_sample(
    stage: Stage, target: ModelConfig, tokenizer: Tokenizer, *, num_steps: int, seed: int = 0
) -> Cost:
    """Draw the first steps of a stage and count."""
    config = stage_config(stage, target)
    feed = FamilyFeed(stage, Processor(config.inputs, tokenizer), seed=seed)
    tokens, operations, samples = 0, 0.0, 0
    for number, share in zip(range(num_steps), feed.steps(0), strict=False):
        for micro in share:
            tokens += micro.batch.input_ids.numel()
            operations += batch_flops(stage, config, micro.batch, lora=None)
        samples = min((number + 1) * stage.global_batch, feed.num_samples)
    return Cost(tokens=tokens / samples, operations=operations / samples)
