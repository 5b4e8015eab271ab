"""A stage, what it reads, and some devices -> steps, operations, memory, hours and dollars.

Everything before the first step is taken. An operation is one addition or multiplication: a weight
costs two of them a token forwards, and two more for each of its two gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onevision.batch import Blocks, TrainingBatch
from onevision.config import LanguageConfig, ModelConfig, VisionConfig
from onevision.errors import ConfigError
from onevision.train.cost.amounts import Amount
from onevision.train.cost.devices import DeviceKind
from onevision.train.cost.memory import Crowd, Memory, count_adapters, memory_per_device
from onevision.train.lora.layers import LoraConfig
from onevision.train.stage import Stage, stage_config

# Share of the peak that executed operations reach. ASSUMPTION: FSDP2 in bf16 on H100s was measured
# at 33 to 39 % (torchtitan, Llama 3.1 8B).
UTILISATION = 0.35
# Share of packed places that hold a token, as measured by benchmarks/data.py --packing.
FILL = 0.99
# Share of a device's memory that a plan may fill; the rest is the runtime's and fragments.
USABLE_MEMORY = 0.92


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What one part computes in the whole stage."""

    part: str
    forward: float
    backward: float
    # The forward pass again, where activations are not kept.
    recomputed: float

    @property
    def total(self) -> float:
        """All that is executed."""
        return self.forward + self.backward + self.recomputed


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a stage will take."""

    stage: Stage
    amounts: tuple[Amount, ...]
    num_steps: int
    # Packed sequences of an optimiser step, over all devices.
    sequences_per_step: int
    operations: tuple[Operations, ...]
    memory: Memory
    kind: DeviceKind
    num_devices: int
    # Devices that hold one copy of the model together.
    shards: int
    utilisation: float

    @property
    def num_samples(self) -> int:
        """Samples seen; of sources without a count, none."""
        return sum(a.num_samples or 0 for a in self.amounts) * self.stage.epochs

    @property
    def num_tokens(self) -> float:
        """Tokens seen, visual ones included."""
        one = sum((a.num_samples or 0) * a.num_tokens for a in self.amounts)
        return one * self.stage.epochs

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Sources left out, since nobody published how many samples they have."""
        return tuple(a.name for a in self.amounts if a.num_samples is None)

    @property
    def simulated(self) -> bool:
        """Whether any source's samples are assumed instead of counted."""
        return any(a.simulated for a in self.amounts)

    @property
    def total_operations(self) -> float:
        """Operations executed in the stage, recomputed ones included."""
        return sum(part.total for part in self.operations)

    @property
    def busy(self) -> float:
        """Share of the devices that have a sequence while a step runs."""
        rounds = math.ceil(self.sequences_per_step / self.num_devices)
        return self.sequences_per_step / (rounds * self.num_devices)

    @property
    def hours(self) -> float:
        """Wall-clock hours."""
        speed = self.num_devices * self.kind.peak_flops * self.utilisation * self.busy
        return self.total_operations / speed / 3600

    @property
    def dollars(self) -> float:
        """The price of all devices for that time."""
        return self.hours * self.num_devices * self.kind.price_per_hour

    @property
    def fits(self) -> bool:
        """Whether a device has the memory."""
        return self.memory.total <= USABLE_MEMORY * self.kind.memory_bytes


def plan_training(
    stage: Stage,
    target: ModelConfig,
    amounts: Sequence[Amount],
    *,
    kind: DeviceKind,
    num_devices: int = 1,
    shards: int | None = None,
    recompute: bool = False,
    utilisation: float = UTILISATION,
    lora: LoraConfig | None = None,
) -> TrainingPlan:
    """Plan a stage on the way to `target`; `amounts` says what it reads (train/amounts.py).

    All devices share one copy of the model unless `shards` says how many do. Raises ConfigError
    where the devices cannot be divided, or no source has a count.
    """
    shards = num_devices if shards is None else shards
    if num_devices < 1 or shards < 1 or num_devices % shards:
        raise ConfigError(
            f"{num_devices} devices in groups of {shards}; expected a group that divides them"
        )
    if not 0 < utilisation <= 1:
        raise ConfigError(f"utilisation is {utilisation}; expected above 0, and 1 at most")
    counted = [a for a in amounts if a.num_samples]
    if not counted:
        raise ConfigError(f"stage {stage.name}: no source has a count of samples; give the data")
    config = stage_config(stage, target)
    num_samples = sum(a.num_samples or 0 for a in counted)
    steps = stage.num_steps(num_samples)
    tokens = stage.epochs * _total(counted, "num_tokens")
    return TrainingPlan(
        stage=stage,
        amounts=tuple(amounts),
        num_steps=steps,
        sequences_per_step=max(1, math.ceil(tokens / (FILL * stage.max_tokens * steps))),
        operations=_operations(stage, config, counted, recompute=recompute, lora=lora),
        memory=memory_per_device(
            stage,
            config,
            _crowd(stage, counted),
            shards=shards,
            recompute=recompute,
            lora=lora,
        ),
        kind=kind,
        num_devices=num_devices,
        shards=shards,
        utilisation=utilisation,
    )


def vision_flops(vision: VisionConfig) -> tuple[float, float]:
    """Return the operations of one crop forwards: of the blocks' weights, of attention."""
    width, patches = vision.hidden_size, vision.num_patches
    weights = vision.num_layers * (4 * width**2 + 2 * width * vision.intermediate_size)
    return 2.0 * weights * patches, 4.0 * vision.num_layers * patches**2 * width


def language_flops(language: LanguageConfig) -> tuple[float, float]:
    """Return the operations of the blocks' weights for a token, and of attention for a pair."""
    width, kv_width = language.hidden_size, language.num_kv_heads * language.head_size
    block = 2 * width**2 + 2 * width * kv_width + 3 * width * language.intermediate_size
    return 2.0 * language.num_layers * block, 4.0 * language.num_layers * width


def batch_flops(
    stage: Stage, config: ModelConfig, batch: TrainingBatch, *, lora: LoraConfig | None = None
) -> float:
    """Return the operations of a batch forwards and backwards, vision included.

    What is computed twice to save memory counts once, padding counts as computed.
    """
    if stage.vision_objective == "patches":  # nothing but the encoder runs
        return 3.0 * len(batch.pixel_values) * sum(vision_flops(config.vision))
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
        num_crops=len(batch.pixel_values),
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
    """Count a stage. A gradient flows through a part if that part or one before it learns.

    Below adapters a part is frozen, and they are two more matrices a layer, which learn.
    """
    adapters = count_adapters(config, lora)
    added = {part: 2.0 * one.numbers for part, one in adapters.items()}  # of a token or patch
    crops = stage.epochs * _total(amounts, "num_crops")
    patches = crops * config.vision.num_patches
    width = config.language.hidden_size
    learns = {part: part in stage.trainable for part in ("vision_encoder", "projector")}
    vision_weights, vision_attention = vision_flops(config.vision)
    token, pair = language_flops(config.language)
    projector = config.vision.hidden_size * width + (config.projector.num_layers - 1) * width**2
    language_learns = "language_model" in stage.trainable and "language_model" not in adapters
    return (
        _part(
            "vision_encoder",
            weights=crops * vision_weights,
            attention=crops * vision_attention,
            adapters=patches * added.get("vision_encoder", 0.0),
            learns=learns["vision_encoder"] and "vision_encoder" not in adapters,
            flows=learns["vision_encoder"],
            recompute=recompute,
        ),
        _part(
            "projector",
            weights=2 * patches * projector,
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
    """Attention multiplies activations, so both its gradients are needed wherever one flows."""
    forward = weights + attention + adapters
    return Operations(
        part=part,
        forward=forward,
        backward=weights * (flows + learns) + 2 * (attention + adapters) * flows,
        recomputed=forward * (flows and recompute),
    )


def _total(amounts: Sequence[Amount], column: str) -> float:
    """Sum a column over all samples of an epoch."""
    return sum((a.num_samples or 0) * getattr(a, column) for a in amounts)


def _crowd(stage: Stage, amounts: Sequence[Amount]) -> Crowd:
    """Fill a sequence with the source that has most crops, and the one that has most labels."""
    return Crowd(
        num_tokens=stage.max_tokens,
        num_crops=stage.max_tokens * max(a.num_crops / a.num_tokens for a in amounts),
        labelled_tokens=stage.max_tokens * max(a.labelled_tokens / a.num_tokens for a in amounts),
    )
