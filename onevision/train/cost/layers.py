"""A model whose layers some devices divide -> the peak bytes on one of them, and what it sends.

A device's part of the language model is one with a part of the heads and of the MLPs' width. The
rest is whole on each device, unless FSDP2 divides that too, among all of them.
"""

from dataclasses import replace

from onevision.config import LanguageConfig, ModelConfig
from onevision.train.cost.memory import BF16, FP32, Memory, memory_per_device
from onevision.train.cost.sequence import SequenceLoad, count_patches
from onevision.train.lora.layers import LoraConfig
from onevision.train.options import Precision
from onevision.train.stage import Stage


def memory_of_part(
    stage: Stage,
    config: ModelConfig,
    load: SequenceLoad,
    *,
    tensor: int,
    shards: int = 1,
    recompute: bool = False,
    lora: LoraConfig | None = None,
    precision: Precision = "bf16",
    context: int = 1,
) -> Memory:
    """Estimates the peak as `memory_per_device` does, if `tensor` devices divide each layer.

    They divide the crops too, and get all patches.
    """

    def count(config: ModelConfig, load: SequenceLoad) -> Memory:
        return memory_per_device(
            stage, config, load, shards=shards, recompute=recompute, lora=lora,
            precision=precision, context=context,
        )  # fmt: skip

    whole = count(config, load)
    if tensor == 1:
        return whole
    own = replace(config, language=_part(config.language, tensor))
    part = count(own, replace(load, num_crops=load.num_crops / tensor))
    width = BF16 if precision == "bf16" else FP32
    part = replace(part, activations=part.activations + width * count_patches(config, load))
    if shards == 1:
        return part
    # All of it is divided among all devices, in one way or the other.
    return replace(part, weights=whole.weights, gradients=whole.gradients, moments=whole.moments)


def sent_in_layers(
    stage: Stage,
    config: ModelConfig,
    load: SequenceLoad,
    *,
    tensor: int,
    recompute: bool,
    width: int,
) -> float:
    """Returns the bytes that one of `tensor` devices sends to the others for a sequence.

    Two sums per block, forward, backward and where blocks are recomputed: of a sum by a ring each
    device sends its numbers nearly twice. Patches once, and back where gradients flow. `width` is
    that of a number.
    """
    if tensor == 1:
        return 0.0
    language = config.language
    sums = 2 * (2 + recompute) * language.num_layers
    flows = bool({"vision_encoder", "projector"} & set(stage.trainable))
    patches = (1 + flows) * count_patches(config, load)
    numbers = 2 * sums * load.num_tokens * language.hidden_size + patches
    return width * numbers * (1 - 1 / tensor)


def _part(language: LanguageConfig, tensor: int) -> LanguageConfig:
    """Returns what one of `tensor` devices computes of each layer."""
    return replace(
        language,
        num_heads=language.num_heads // tensor,
        num_kv_heads=language.num_kv_heads // tensor,
        intermediate_size=language.intermediate_size // tensor,
        head_dim=language.head_size,
    )
