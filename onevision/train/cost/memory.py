"""Stage + architecture + sharding -> the peak bytes on one device.

Assumes fp32 weights, arithmetic in bf16 or fp32, and one packed sequence of `max_tokens` at a time;
layers below adapters are frozen and may be in few bits. Parameters are counted on the true network,
built on the meta device. Activations are estimated: what the blocks of model/ keep for their
backward pass with fused attention.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from onevision.accelerate.empty import without_memory
from onevision.config import ConvNetConfig, LanguageConfig, ModelConfig, VisionConfig
from onevision.errors import ConfigError
from onevision.model.llava import LlavaNetwork
from onevision.model.native_vision import NativeEncoder
from onevision.train.cost.sequence import SequenceLoad, attention_width, count_patches
from onevision.train.lora.bases import stored_bytes
from onevision.train.lora.layers import LoraConfig, linear_names
from onevision.train.loss import CHUNK_BYTES
from onevision.train.optim import part_parameters
from onevision.train.options import Precision, RunOptions
from onevision.train.stage import Stage

FP32, BF16 = 4, 2


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """The number of parameters of a network."""

    by_part: tuple[tuple[str, int], ...]
    vision_block: int  # or all of an encoder at native resolution, which is gathered whole
    language_block: int
    # Outside the blocks, gathered for the whole step: embedding, head, norms.
    outside: int
    learned_tokens: int
    largest: int  # of one tensor

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(count for _, count in self.by_part)

    def of(self, parts: tuple[str, ...]) -> int:
        """The parameters of some parts."""
        return sum(count for name, count in self.by_part if name in parts)


@dataclass(frozen=True, kw_only=True)
class AdapterCounts:
    """The number of parameters in the adapters of one part, and in the layers below them."""

    numbers: int
    base_numbers: int
    base_bytes: int  # as they are stored
    largest_base: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device, by use."""

    weights: float  # fp32 master weights, or few bits below adapters
    copies: float  # weights to compute with: all in bf16, or those of the active blocks
    gradients: float  # fp32
    moments: float  # two of AdamW, fp32; Muon has a single one for some weights
    activations: float
    head: float  # logits of one chunk of labelled positions, and the head's gradient

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(vars(self).values())


def memory_per_device(
    stage: Stage,
    config: ModelConfig,
    crowd: SequenceLoad,
    *,
    shards: int = 1,
    recompute: bool = False,
    lora: LoraConfig | None = None,
    precision: Precision = "bf16",
    context: int = 1,
) -> Memory:
    """Estimates the peak of `stage`; `config` is the stage's, as `stage_config` returns it.

    Weights, gradients and moments are divided among `shards` devices; weights in few bits are not.
    With `recompute`, blocks keep only their inputs. `lora` names the parts that train by adapters.
    `context` devices divide the sequence.
    """
    crowd = crowd.share(context)
    counts, adapters = count_parameters(config), count_adapters(config, lora)
    learning = count_trainable(stage, config, lora)
    added = sum(one.numbers for one in adapters.values())
    low = [one for one in adapters.values() if lora is not None and lora.base != "full"]
    scaled = [one for one in adapters.values() if lora is not None and lora.magnitudes]
    in_few_bits = sum(one.base_numbers for one in low)
    floats = counts.total - in_few_bits + added
    largest = max((one.largest_base for one in low), default=0)  # converted one at a time
    # DoRA measures the rows of W + B A, one layer at a time.
    summed = 2 * FP32 * max((one.largest_base for one in scaled), default=0)
    width = BF16 if precision == "bf16" else FP32
    copied = floats if precision == "bf16" else 0.0  # fp32 weights compute as they are
    return Memory(
        weights=FP32 * floats / shards + sum(one.base_bytes for one in low),
        copies=width * largest
        + summed
        + (BF16 * copied if shards == 1 else width * counts.outside + _copies_of_blocks(counts)),
        gradients=FP32 * learning / shards,
        moments=2 * FP32 * learning / shards,
        activations=width
        * (
            _vision(stage, config.vision, crowd, recompute=recompute, lora=lora)
            + _projector(stage, config, crowd)
            + (count_patches(config, crowd) if context > 1 else 0.0)  # as they arrive
            + _language(config.language, crowd, recompute=recompute, lora=lora, context=context)
        ),
        head=_head(stage, config.language, crowd, lora, width=width),
    )


def count_shards(options: RunOptions, *, num_devices: int) -> int:
    """Returns how many devices share one copy of the model in a run. Raises ConfigError."""
    if options.sharing == "replicate":
        return 1
    if num_devices % options.replicas:
        raise ConfigError(
            f"replicas is {options.replicas}; expected a divisor of the {num_devices} devices"
        )
    return num_devices // options.replicas


def count_trainable(stage: Stage, config: ModelConfig, lora: LoraConfig | None = None) -> int:
    """Counts the trainable parameters: in a part with adapters, those and `learned_tokens`."""
    counts, adapters = count_parameters(config), count_adapters(config, lora)
    total = counts.of(tuple(part for part in stage.trainable if part not in adapters))
    total += sum(one.numbers for part, one in adapters.items() if part in stage.trainable)
    beside = "language_model" in adapters and "language_model" in stage.trainable
    return total + (counts.learned_tokens if beside else 0)


@lru_cache(maxsize=16)
def count_adapters(config: ModelConfig, lora: LoraConfig | None) -> Mapping[str, AdapterCounts]:
    """Counts the adapters of each part that has some, without allocating them."""
    if lora is None:
        return {}
    with without_memory():
        network = LlavaNetwork(config)
    found: dict[str, AdapterCounts] = {}
    for part in lora.parts:
        layers = [
            network.get_submodule(name)
            for name in linear_names(network, (part,), layers=lora.layers)
        ]
        sizes = [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)]
        found[part] = AdapterCounts(
            numbers=sum(lora.rank * (width + out) + lora.magnitudes * out for width, out in sizes),
            base_numbers=sum(width * out for width, out in sizes),
            base_bytes=sum(stored_bytes(lora.base, out, width) for width, out in sizes),
            largest_base=max(width * out for width, out in sizes),
        )
    return found


@lru_cache(maxsize=16)
def count_parameters(config: ModelConfig) -> ParameterCounts:
    """Counts the parameters of an architecture, without allocating them."""
    with without_memory():
        network = LlavaNetwork(config)
    vision, language = network.vision_encoder.blocks, network.language_model.blocks
    is_native = isinstance(network.vision_encoder, NativeEncoder)
    outside = _numel(network) - _numel(vision) - _numel(language)
    parts = part_parameters(network)
    unused = _numel(network) - sum(p.numel() for ps in parts.values() for p in ps)
    return ParameterCounts(
        by_part=(
            *((name, sum(p.numel() for p in ps)) for name, ps in parts.items()),
            ("unused", unused),
        ),
        vision_block=_numel(network.vision_encoder if is_native else vision[0]),
        language_block=_numel(language[0]),
        outside=outside,
        learned_tokens=sum(vector.numel() for vector in network.learned_tokens.values()),
        largest=max(p.numel() for p in network.parameters()),
    )


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _copies_of_blocks(counts: ParameterCounts) -> float:
    """Returns the bytes of two blocks' bf16 weights and of one block's gradients.

    One block is fetched while the other runs. Gradients are bf16 as computed, fp32 as accumulated.
    """
    block = max(counts.vision_block, counts.language_block)
    return (2 * BF16 + BF16 + FP32) * block


def _vision(
    stage: Stage,
    vision: VisionConfig | ConvNetConfig,
    crowd: SequenceLoad,
    *,
    recompute: bool,
    lora: LoraConfig | None,
) -> float:
    """Returns how many numbers the encoder keeps.

    A block keeps, in numbers per patch: norms 4 C, queries to output 4 C, MLP 2 hidden. Each of its
    6 adapters keeps the product of A and its input; with dropout, the input too, in fp32; with
    magnitudes, its output before it is scaled. A convolution keeps its output.
    """
    if isinstance(vision, ConvNetConfig):
        maps = [c.out_width * c.side**2 for c in vision.convolutions()]
        learns = "vision_encoder" in stage.trainable
        return crowd.num_crops * (sum(maps) if learns else 2 * max(maps))
    patches = crowd.num_crops * vision.num_patches
    width = vision.hidden_size
    block = 8 * width + 2 * vision.intermediate_size
    if lora is not None and "vision_encoder" in lora.parts:
        block += 6 * lora.rank + (lora.dropout > 0) * 2 * (5 * width + vision.intermediate_size)
        block += lora.magnitudes * (5 * width + vision.intermediate_size)
    block *= patches
    if "vision_encoder" not in stage.trainable:
        return block  # nothing is kept; one block is active
    if recompute:
        return vision.num_layers * patches * width + block
    return vision.num_layers * block


def _projector(stage: Stage, config: ModelConfig, crowd: SequenceLoad) -> float:
    if not {"vision_encoder", "projector"} & set(stage.trainable):
        return 0.0
    hidden = 2 * (config.projector.num_layers - 1) + 1  # before and after each GELU, and the result
    width = config.vision.hidden_size + hidden * config.language.hidden_size
    width += config.projector.num_blocks * 16 * config.projector.block_width  # as in `_vision`
    return crowd.num_crops * config.vision.num_patches * width


def _language(
    language: LanguageConfig,
    crowd: SequenceLoad,
    *,
    recompute: bool,
    lora: LoraConfig | None,
    context: int,
) -> float:
    """Returns how many numbers the language model keeps.

    A block keeps, in numbers per token: norms 8 D (half of it fp32), attention, SwiGLU 4 hidden.
    Gradients flow through the language model even if it is frozen, to the parts before it. Its 7
    adapters are as in `_vision`, and norms that do not train keep 4 D less.
    """
    width, kv_width = language.hidden_size, language.num_kv_heads * language.head_size
    attention = attention_width(language, context)
    hidden = language.intermediate_size
    block = 8 * width + attention + 4 * hidden
    if lora is not None and "language_model" in lora.parts:
        block += 7 * lora.rank - 4 * width + (lora.dropout > 0) * 2 * (6 * width + hidden)
        block += lora.magnitudes * (3 * width + 2 * kv_width + 2 * hidden)
    kept = language.num_layers * (width if recompute else block) + (block if recompute else 0)
    return crowd.num_tokens * (kept + 4 * width)  # embedded input, final norm


def _head(
    stage: Stage,
    language: LanguageConfig,
    crowd: SequenceLoad,
    lora: LoraConfig | None,
    *,
    width: int,
) -> float:
    """Returns bytes; `width` is that of a number of the arithmetic."""
    frozen = lora is not None and "language_model" in lora.parts
    gradient = 0
    if "language_model" in stage.trainable and not frozen:
        gradient = FP32 * language.vocab_size * language.hidden_size
    hidden = 2 * width * crowd.labelled_tokens * language.hidden_size
    return 2 * CHUNK_BYTES + hidden + gradient
