"""A packed sequence -> what it holds, whole or one device's share, and what is sent for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onevision.config import LanguageConfig, ModelConfig
from onevision.train.context.division import count_repeats
from onevision.train.cost.amounts import Amount
from onevision.train.stage import Stage


@dataclass(frozen=True, kw_only=True)
class SequenceLoad:
    """What one packed sequence holds; each is from the source that has most of it."""

    num_tokens: int
    num_crops: float
    labelled_tokens: float

    def share(self, context: int) -> "SequenceLoad":
        """Returns what one of `context` devices has of it, which may be most of the labels."""
        if context == 1:
            return self
        num_tokens = math.ceil(self.num_tokens / context)
        return SequenceLoad(
            num_tokens=num_tokens,
            num_crops=self.num_crops / context,
            labelled_tokens=min(self.labelled_tokens, num_tokens),
        )


def largest_load(stage: Stage, amounts: Sequence[Amount]) -> SequenceLoad:
    """Returns a sequence full of the source with most crops, and of that with most labels."""
    return SequenceLoad(
        num_tokens=stage.max_tokens,
        num_crops=stage.max_tokens * max(a.num_crops / a.num_tokens for a in amounts),
        labelled_tokens=stage.max_tokens * max(a.labelled_tokens / a.num_tokens for a in amounts),
    )


def attention_width(language: LanguageConfig, context: int) -> int:
    """Returns the numbers that a token of a block has as queries, keys, values and their mix.

    If `context` devices divide the sequence, keys and values are repeated until they can be shared
    and the mix exists twice, by heads and by positions.
    """
    kv_width = language.num_kv_heads * language.head_size
    if context == 1:
        return 2 * language.query_width + 2 * kv_width
    kv_width *= count_repeats(language.num_kv_heads, context)
    return 3 * language.query_width + 2 * kv_width


def sent_bytes(
    stage: Stage,
    config: ModelConfig,
    load: SequenceLoad,
    *,
    context: int,
    recompute: bool,
    width: int,
) -> float:
    """Returns the bytes that one of `context` devices sends to the others for a whole sequence.

    Queries, keys, values and their mix in every block; patches once: forward, backward where
    gradients flow, and again where blocks are recomputed. `width` is that of a number.
    """
    if context == 1:
        return 0.0
    language, own = config.language, load.share(context)
    each = attention_width(language, context) - language.query_width
    attention = (2 + recompute) * language.num_layers * own.num_tokens * each
    flows = bool({"vision_encoder", "projector"} & set(stage.trainable))
    return width * (attention + (1 + flows) * count_patches(config, own)) * (1 - 1 / context)


def count_patches(config: ModelConfig, load: SequenceLoad) -> float:
    """Returns how many numbers the projected patches of all crops have."""
    patches = config.vision.num_patches / config.projector.merge**2
    return load.num_crops * patches * config.language.hidden_size
