"""Prompts and settings -> what a run of GRPO reads, learns and generates, before its first step."""

from collections.abc import Sequence
from dataclasses import dataclass

from onevision.config import ModelConfig
from onevision.errors import DataError
from onevision.inputs.processor import Processor
from onevision.train.cost.amounts import Amount, count_vision_pairs
from onevision.train.cost.plan import language_flops
from onevision.train.cost.tables import Table, compact
from onevision.train.reinforce.config import ReinforceConfig
from onevision.train.reinforce.data import RewardedPrompt
from onevision.train.stage import Stage

GIB = 2**30
# Bytes of a number in the engine's cache, which has the type of the weights: fp32 in training.
CACHE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """What sampling takes in the whole run, if every answer is as long as it may be."""

    num_prompts: int
    num_answers: int  # of the whole run
    num_tokens: int  # that are sampled
    prefill_flops: float
    decode_flops: float
    cache_bytes: int  # keys and values of the prompts that are answered at a time


def count_prompts(
    prompts: Sequence[RewardedPrompt], processor: Processor, config: ReinforceConfig, *, name: str
) -> Amount:
    """Returns what a step learns of a prompt: its media once, its words and answers 16 times.

    From the headers of media alone. Raises DataError if a medium cannot be read.
    """
    if not prompts:
        raise DataError(f"{name}: it has no prompt; give a file of prompts")
    outlines = [processor.outline(prompt.conversation) for prompt in prompts]
    number, longest, count = config.num_answers, config.max_new_tokens, len(outlines)
    visual = [sum(la.num_tokens for la in outline.layouts) for outline in outlines]
    words = [o.num_tokens - v for o, v in zip(outlines, visual, strict=True)]
    branches = [word + longest for word in words]  # an answer and its own copy of the words
    return Amount(
        name=name,
        scenario="single_image" if any(visual) else "text",
        num_samples=count,
        num_crops=sum(la.num_crops for o in outlines for la in o.layouts) / count,
        visual_tokens=sum(visual) / count,
        text_tokens=number * sum(branches) / count,
        labelled_tokens=number * longest,
        vision_pairs=sum(count_vision_pairs(outline.layouts) for outline in outlines) / count,
        pairs=sum(
            v**2 / 2 + number * (b * v + b**2 / 2) for v, b in zip(visual, branches, strict=True)
        )
        / count,
    )


def plan_rollouts(
    amount: Amount, stage: Stage, model: ModelConfig, config: ReinforceConfig
) -> RolloutPlan:
    """Returns what sampling takes, from what a prompt is."""
    language, number = model.language, config.num_answers
    per_token, per_pair = language_flops(language)
    words = amount.text_tokens / number - config.max_new_tokens
    prompt = amount.visual_tokens + words
    longest = config.max_new_tokens
    asked = (amount.num_samples or 0) * stage.epochs
    head = 2.0 * language.hidden_size * language.vocab_size
    prefill = prompt * per_token + prompt**2 / 2 * per_pair
    prefill += amount.num_crops * model.vision.weight_flops
    prefill += amount.vision_pairs * model.vision.attention_flops
    decode = longest * (per_token + head) + (longest * prompt + longest**2 / 2) * per_pair
    per_position = 2 * language.num_layers * language.num_kv_heads * language.head_size
    positions = number * (prompt + longest)
    return RolloutPlan(
        num_prompts=asked,
        num_answers=asked * number,
        num_tokens=asked * number * longest,
        prefill_flops=asked * prefill,
        decode_flops=asked * number * decode,
        cache_bytes=round(config.prompts_at_once * positions * per_position * CACHE_BYTES),
    )


def rollout_table(plan: RolloutPlan, config: ReinforceConfig) -> Table:
    """Returns the plan as a table."""
    rows = (
        ("prompts answered", f"{plan.num_prompts:,}"),
        ("answers", f"{plan.num_answers:,}, {config.num_answers} from each prefill"),
        ("tokens sampled, at most", compact(plan.num_tokens)),
        ("operations of prefilling", f"{plan.prefill_flops:.2e}"),
        ("operations of sampling", f"{plan.decode_flops:.2e}"),
        ("keys and values at a time", f"{plan.cache_bytes / GIB:.2f} GiB in fp32"),
    )
    return Table(
        title="rollouts: what is sampled before it is learned",
        header=("what", "how much"),
        rows=rows,
        remarks=(
            f"every answer counts as {config.max_new_tokens:,} tokens (max_new_tokens); most are "
            "shorter",
            "the hours above are of learning; sampling waits for memory, so measure it on a short "
            "run: seconds of metrics.jsonl include it",
        ),
    )
