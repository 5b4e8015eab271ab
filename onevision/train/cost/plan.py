"""A stage, what it reads, and some devices -> steps, operations, memory, hours and dollars.

All of it is computed before the first step. An operation is one addition or multiplication: a
weight costs two of them per token in the forward pass, and two more for each of its two gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from onevision.batch import Blocks, TrainingBatch
from onevision.config import LanguageConfig, ModelConfig
from onevision.errors import ConfigError
from onevision.train.cost.amounts import Amount, count_vision_pairs, projector_weights
from onevision.train.cost.devices import DeviceKind
from onevision.train.cost.ends import MemoryAtEnds, memory_at_ends
from onevision.train.cost.host import NOTHING, HostMemory, move_to_host
from onevision.train.cost.layers import memory_of_part, sent_in_layers
from onevision.train.cost.memory import BF16, FP32, Memory, count_adapters
from onevision.train.cost.sequence import largest_load, sent_bytes
from onevision.train.lora.layers import LoraConfig
from onevision.train.offload.choice import NO_OFFLOAD, Offload
from onevision.train.options import Precision
from onevision.train.stage import Stage, stage_config

# Share of the devices' peak that executed operations reach. ASSUMPTION: FSDP2 in bf16 on H100s was
# measured at 33 to 39 % (torchtitan, Llama 3.1 8B).
UTILISATION = 0.35
# Share of packed positions that hold a token, as measured by benchmarks/data.py --packing.
FILL = 0.99
# Share of a device's memory that a plan may fill; the rest is for the runtime and fragments.
USABLE_MEMORY = 0.92


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations of one part in the whole stage."""

    part: str
    forward: float
    backward: float
    # The forward pass again, where activations are not kept.
    recomputed: float

    @property
    def total(self) -> float:
        """All operations executed."""
        return self.forward + self.backward + self.recomputed


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The cost of a stage."""

    stage: Stage
    amounts: tuple[Amount, ...]
    num_steps: int
    # Packed sequences per optimiser step, over all devices.
    sequences_per_step: int
    operations: tuple[Operations, ...]
    memory: Memory
    ends: MemoryAtEnds
    kind: DeviceKind
    num_devices: int
    # Devices that share one copy of weights, gradients and moments.
    shards: int
    precision: Precision = "bf16"
    # Devices that divide each sequence, or each layer; the bytes that one sends for a sequence.
    context: int = 1
    tensor: int = 1
    sent: float = 0.0
    host: HostMemory = NOTHING

    @property
    def num_samples(self) -> int:
        """Samples read; sources without a count have none."""
        return sum(a.num_samples or 0 for a in self.amounts) * self.stage.epochs

    @property
    def num_tokens(self) -> float:
        """Tokens read, visual tokens included."""
        one = sum((a.num_samples or 0) * a.num_tokens for a in self.amounts)
        return one * self.stage.epochs

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Sources left out, since no count of their samples is published."""
        return tuple(a.name for a in self.amounts if a.num_samples is None)

    @property
    def simulated(self) -> bool:
        """Whether the samples of any source are assumed, not counted."""
        return any(a.simulated for a in self.amounts)

    @property
    def total_operations(self) -> float:
        """Operations executed in the stage, recomputed ones included."""
        return sum(part.total for part in self.operations)

    @property
    def busy(self) -> float:
        """Mean share of the devices that have a sequence during a step."""
        groups = self.num_devices // (self.context * self.tensor)
        rounds = math.ceil(self.sequences_per_step / groups)
        return self.sequences_per_step / (rounds * groups)

    @property
    def hours(self) -> float:
        """Wall-clock hours."""
        speed = self.num_devices * self.kind.peak_flops * UTILISATION * self.busy
        return self.total_operations / speed / 3600

    @property
    def dollars(self) -> float:
        """The price of all devices for those hours."""
        return self.hours * self.num_devices * self.kind.price_per_hour

    @property
    def fits(self) -> bool:
        """Whether the memory of a device is enough, from start to end."""
        peak = max(self.memory.total, self.ends.start, self.ends.end)
        return peak <= USABLE_MEMORY * self.kind.memory_bytes


def plan_training(
    stage: Stage,
    target: ModelConfig,
    amounts: Sequence[Amount],
    *,
    kind: DeviceKind,
    num_devices: int = 1,
    shards: int | None = None,
    recompute: bool = False,
    lora: LoraConfig | None = None,
    precision: Precision = "bf16",
    context: int = 1,
    tensor: int = 1,
    offload: Offload = NO_OFFLOAD,
) -> TrainingPlan:
    """Plans a stage on the way to `target`; `amounts` are what it reads (cost/amounts.py).

    `shards` devices share one copy of the model; by default, all of them. `context` of them divide
    each sequence, or `tensor` each layer. Raises ConfigError without devices or counted sources.
    """
    if num_devices < 1:
        raise ConfigError(f"{num_devices} devices; expected at least 1")
    shards = shards or num_devices
    counted = [a for a in amounts if a.num_samples]
    if not counted:
        raise ConfigError(f"stage {stage.name}: no source has a count of samples; give the data")
    config = stage_config(stage, target)
    num_samples = sum(a.num_samples or 0 for a in counted)
    steps = stage.num_steps(num_samples)
    tokens = stage.epochs * _total(counted, "num_tokens")
    load, width = largest_load(stage, counted), BF16 if precision == "bf16" else FP32
    estimate = partial(
        memory_of_part, stage, load=load, tensor=tensor, shards=shards, recompute=recompute,
        lora=lora, precision=precision, context=context,
    )  # fmt: skip
    memory, host = move_to_host(estimate, config, offload)
    sent = sent_bytes(stage, config, load, context=context, recompute=recompute, width=width)
    sent += sent_in_layers(stage, config, load, tensor=tensor, recompute=recompute, width=width)
    return TrainingPlan(
        stage=stage,
        amounts=tuple(amounts),
        num_steps=steps,
        sequences_per_step=max(1, math.ceil(tokens / (FILL * stage.max_tokens * steps))),
        operations=_operations(stage, config, counted, recompute=recompute, lora=lora),
        memory=memory,
        host=host,
        ends=memory_at_ends(config, memory),
        kind=kind,
        num_devices=num_devices,
        shards=shards,
        precision=precision,
        context=context,
        tensor=tensor,
        sent=sent,
    )


def language_flops(language: LanguageConfig) -> tuple[float, float]:
    """Returns the operations of the blocks' weights per token, and of attention per pair."""
    width, queries = language.hidden_size, language.query_width
    kv_width = language.num_kv_heads * language.head_size
    block = 2 * width * (queries + kv_width) + 3 * width * language.intermediate_size
    return 2.0 * language.num_layers * block, 4.0 * language.num_layers * queries


def batch_flops(
    stage: Stage, config: ModelConfig, batch: TrainingBatch, *, lora: LoraConfig | None = None
) -> float:
    """Returns the operations of a batch, forward and backward, vision included.

    What is recomputed to save memory counts once; padding counts.
    """
    if stage.vision_objective == "patches":  # only the encoder runs
        return 3.0 * len(batch.pixel_values) * config.vision.flops
    if isinstance(batch.mask, Blocks):
        blocks = zip(batch.mask.lengths, batch.mask.masks, strict=True)
        pairs = sum(n * (n + 1) / 2 if mask is None else float(mask.sum()) for n, mask in blocks)
    else:
        pairs = float(batch.mask.sum())
    visual = int(batch.visual_mask.sum())
    amount = Amount(
        name="a batch",
        scenario="single_image",
        num_samples=1,
        num_crops=sum(layout.num_crops for layout in batch.layouts),
        vision_pairs=count_vision_pairs(batch.layouts),
        visual_tokens=visual,
        text_tokens=batch.input_ids.numel() - visual,
        labelled_tokens=len(batch.targets),
        pairs=pairs,
    )
    parts = _operations(replace(stage, epochs=1), config, [amount], recompute=False, lora=lora)
    return sum(part.total for part in parts)


def _operations(
    stage: Stage,
    config: ModelConfig,
    amounts: Sequence[Amount],
    *,
    recompute: bool,
    lora: LoraConfig | None,
) -> tuple[Operations, ...]:
    """Counts a stage. A gradient flows through a part if that part or one before it trains.

    A part with adapters is frozen below them; they are two more matrices per layer, which train.
    """
    adapters = count_adapters(config, lora)
    added = {part: 2.0 * one.numbers for part, one in adapters.items()}  # per token or patch
    crops = stage.epochs * _total(amounts, "num_crops")
    patches = crops * config.vision.num_patches
    width = config.language.hidden_size
    learns = {part: part in stage.trainable for part in ("vision_encoder", "projector")}
    token, pair = language_flops(config.language)
    language_learns = "language_model" in stage.trainable and "language_model" not in adapters
    return (
        _part(
            "vision_encoder",
            weights=crops * config.vision.weight_flops,
            attention=stage.epochs
            * _total(amounts, "vision_pairs")
            * config.vision.attention_flops,
            adapters=patches * added.get("vision_encoder", 0.0),
            learns=learns["vision_encoder"] and "vision_encoder" not in adapters,
            flows=learns["vision_encoder"],
            recompute=recompute,
        ),
        _part(
            "projector",
            weights=2 * patches * projector_weights(config),
            learns=learns["projector"],
            flows=any(learns.values()),
        ),
        _part(
            "language_model",
            weights=stage.epochs * _total(amounts, "num_tokens") * token,
            attention=stage.epochs * _total(amounts, "pairs") * pair,
            adapters=stage.epochs
            * _total(amounts, "num_tokens")
            * added.get("language_model", 0.0),
            learns=language_learns,
            recompute=recompute,
        ),
        _part(
            "head",
            weights=2 * stage.epochs * _total(amounts, "labelled_tokens") * width
            * config.language.vocab_size,
            learns=language_learns,
        ),
    )  # fmt: skip


def _part(
    part: str,
    *,
    weights: float,
    attention: float = 0.0,
    adapters: float = 0.0,
    learns: bool,
    flows: bool = True,
    recompute: bool = False,
) -> Operations:
    """Counts one part. Attention multiplies activations: both have gradients if any flows."""
    forward = weights + attention + adapters
    return Operations(
        part=part,
        forward=forward,
        backward=weights * (flows + learns) + 2 * (attention + adapters) * flows,
        recomputed=forward * (flows and recompute),
    )


def _total(amounts: Sequence[Amount], column: str) -> float:
    """Sums a column over all samples of an epoch."""
    return sum((a.num_samples or 0) * getattr(a, column) for a in amounts)
