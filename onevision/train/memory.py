"""Stage + architecture + sharding -> the bytes that one device holds at its peak.

Counted for bf16 arithmetic over fp32 weights, one packed sequence of `max_tokens` at a time. The
parameters are those of the true network, made without memory; activations are an estimate: what
the blocks of model/ keep for their backward pass under a fused attention.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from onevision.config import LanguageConfig, ModelConfig, VisionConfig
from onevision.model.llava import LlavaNetwork
from onevision.train.loss import CHUNK_BYTES
from onevision.train.optim import part_parameters
from onevision.train.recipes import Stage

FP32, BF16 = 4, 2


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How many numbers a network holds."""

    by_part: tuple[tuple[str, int], ...]
    vision_block: int
    language_block: int
    # What stands outside the blocks and is gathered for the whole step: embedding, head, norms.
    outside: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(count for _, count in self.by_part)

    def of(self, parts: tuple[str, ...]) -> int:
        """Those of some parts."""
        return sum(count for name, count in self.by_part if name in parts)


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """What is at work in one packed sequence: of the source that has most of each."""

    num_tokens: int
    num_crops: float
    labelled_tokens: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device, by what holds them."""

    weights: float  # the fp32 masters
    copies: float  # what runs: bf16 weights, all of them or those of the blocks at work
    gradients: float  # fp32
    moments: float  # Adam's two, fp32
    activations: float
    head: float  # logits of one chunk of labelled positions, and the head's own gradient

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(vars(self).values())


def memory_per_device(
    stage: Stage, config: ModelConfig, crowd: Crowd, *, shards: int = 1, recompute: bool = False
) -> Memory:
    """Estimate the peak of `stage`; `config` is the stage's, as `stage_config` returns it.

    Weights, gradients and moments are divided among `shards` devices. With `recompute`, blocks keep
    their inputs alone.
    """
    counts = count_parameters(config)
    learning = counts.of(stage.trainable)
    return Memory(
        weights=FP32 * counts.total / shards,
        copies=_copies(counts, shards=shards),
        gradients=FP32 * learning / shards,
        moments=2 * FP32 * learning / shards,
        activations=_vision(stage, config.vision, crowd, recompute=recompute)
        + _projector(stage, config, crowd)
        + _language(config.language, crowd, recompute=recompute),
        head=_head(stage, config.language, crowd),
    )


@lru_cache(maxsize=16)
def count_parameters(config: ModelConfig) -> Parameters:
    """Count the parameters of an architecture, without making them."""
    with torch.device("meta"):
        network = LlavaNetwork(config)
    vision, language = network.vision_encoder.blocks, network.language_model.blocks
    outside = _numel(network) - _numel(vision) - _numel(language)
    parts = part_parameters(network)
    unused = _numel(network) - sum(p.numel() for ps in parts.values() for p in ps)
    return Parameters(
        by_part=(
            *((name, sum(p.numel() for p in ps)) for name, ps in parts.items()),
            ("unused", unused),
        ),
        vision_block=_numel(vision[0]),
        language_block=_numel(language[0]),
        outside=outside,
    )


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _copies(counts: Parameters, *, shards: int) -> float:
    if shards == 1:  # autocast keeps a copy of every weight until the step ends
        return BF16 * counts.total
    # Two blocks' weights, so that one is fetched while the other runs; one block's gradients, as
    # computed and as they are being added up.
    block = max(counts.vision_block, counts.language_block)
    return BF16 * counts.outside + (2 * BF16 + BF16 + FP32) * block


def _vision(stage: Stage, vision: VisionConfig, crowd: Crowd, *, recompute: bool) -> float:
    """Kept of a block, in numbers a patch: norms 4 C, queries to output 4 C, MLP 2 hidden."""
    patches = crowd.num_crops * vision.num_patches
    width = vision.hidden_size
    block = BF16 * patches * (8 * width + 2 * vision.intermediate_size)
    if "vision_encoder" not in stage.trainable:
        return block  # nothing is kept; one block is at work
    if recompute:
        return vision.num_layers * BF16 * patches * width + block
    return vision.num_layers * block


def _projector(stage: Stage, config: ModelConfig, crowd: Crowd) -> float:
    if not {"vision_encoder", "projector"} & set(stage.trainable):
        return 0.0
    hidden = 2 * (config.projector.num_layers - 1) + 1  # before and after each GELU, and the result
    width = config.vision.hidden_size + hidden * config.language.hidden_size
    return BF16 * crowd.num_crops * config.vision.num_patches * width


def _language(language: LanguageConfig, crowd: Crowd, *, recompute: bool) -> float:
    """Kept of a block, in numbers a token: norms 8 D (half of it fp32), attention, SwiGLU 4 hidden.

    Gradients flow through the language model even where it is frozen: what learns comes before it.
    """
    width, kv_width = language.hidden_size, language.num_kv_heads * language.head_size
    attention = 2 * width + 2 * kv_width
    block = 8 * width + attention + 4 * language.intermediate_size
    kept = language.num_layers * (width if recompute else block) + (block if recompute else 0)
    return BF16 * crowd.num_tokens * (kept + 4 * width)  # embedded input, final norm


def _head(stage: Stage, language: LanguageConfig, crowd: Crowd) -> float:
    gradient = 0
    if "language_model" in stage.trainable:
        gradient = FP32 * language.vocab_size * language.hidden_size
    hidden = 2 * BF16 * crowd.labelled_tokens * language.hidden_size
    return 2 * CHUNK_BYTES + hidden + gradient
