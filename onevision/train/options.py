"""How a stage is run, apart from what it learns: precision, processes, saving, time limits."""

from dataclasses import dataclass, fields
from typing import Literal

from onevision.errors import ConfigError
from onevision.eval.heldout import HeldoutScenario
from onevision.train.lora.bases import Base
from onevision.train.lora.layers import AdaptedPart, Layers, LoraConfig
from onevision.train.lora.targets import PRESETS, Targets
from onevision.train.offload.choice import Offload
from onevision.train.parallel import Sharing
from onevision.train.validation.split import parse_share

# Whether every target of a step counts the same or, as in the reference, every micro-batch.
LossMean = Literal["tokens", "micro_batches"]
Precision = Literal["bf16", "fp32"]
# The type of a written checkpoint's weights; "auto" is that of the checkpoint the run begins with.
ResultType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run. Raises ConfigError if a value is out of range."""

    # Of the order of samples, of new adapters and of random weights.
    seed: int = 0
    # "cpu", "cuda" or "cuda:1"; a command that is not told takes the GPU if there is one.
    device: str = "cpu"
    # Of computation; weights, moments and sums of gradients are always fp32.
    precision: Precision = "bf16"
    # Whether every target of a step counts the same, or every micro-batch, as in the reference.
    loss_mean: LossMean = "tokens"
    # Of the weights in checkpoint/: "auto" is that of the checkpoint the run begins with.
    result_dtype: ResultType = "auto"
    # Whether each of several processes holds the whole model or a slice (FSDP2).
    sharing: Sharing = "replicate"
    # Groups of processes that hold all slices each (HSDP), with `sharing=shard`.
    replicas: int = 1
    # Processes that divide each packed sequence among them (context parallelism): a divisor of
    # their number and of the query heads.
    context: int = 1
    # Processes that divide each layer of the language model among them (tensor parallelism): a
    # divisor of their number, of the query and key/value heads, and of the MLP's width.
    tensor: int = 1
    # Keep only the inputs of blocks and run the blocks again in the backward pass (activation
    # checkpointing): less memory, a third more time.
    recompute: bool = False
    # Keep the optimiser's moments in host memory; a step brings them to the device piece by piece.
    offload_optimizer: bool = False
    # Keep what blocks save for the backward pass in host memory until then; with `recompute`, their
    # inputs.
    offload_activations: bool = False
    # Compile block by block.
    compiled: bool = False
    # Processes that plan and decode samples; 0: the trainer does it.
    num_workers: int = 2
    # A worker that takes longer over a sample is replaced; a sample that costs two workers is left
    # out.
    decode_seconds: float = 120.0
    # Directories that relative media paths start at, and that links may lead to.
    media_roots: tuple[str, ...] = ()
    # The share of samples that may be unusable, found while planning or while reading; more end the
    # run.
    max_bad_share: float = 0.01
    # Compare the weights it starts from with their checksums.
    verify: bool = True
    # A manifest written by `onevision data check --manifest`: learn from exactly its samples.
    manifest: str | None = None
    # A directory that keeps the features of a frozen vision encoder; see features.py.
    features: str | None = None

    # Adapters of this rank train in place of `lora_parts`; 0: no adapters.
    lora_rank: int = 0
    # An adapter's output is multiplied by alpha / rank.
    lora_alpha: float = 16.0
    # Share of an adapter's inputs dropped in training.
    lora_dropout: float = 0.0
    # Every linear layer in the blocks of these parts gets an adapter.
    lora_parts: tuple[AdaptedPart, ...] = ("language_model",)
    # Which layers of those blocks: all, or those of attention.
    lora_layers: Layers = "all"
    # Multiply by alpha / sqrt(rank) instead (rsLoRA).
    lora_rslora: bool = False
    # Train the length of each row of an adapted weight, too (DoRA).
    lora_dora: bool = False
    # How each frozen weight below an adapter is stored: "int8" in one byte, "int4" and "nf4" (by
    # bitsandbytes) in half a byte and a sixteenth for scales.
    lora_base: Base = "full"
    # What trains, by a name: "language", adapters in the language model and the projector whole;
    # "attention", the same in attention layers alone; "all", adapters in the vision encoder too.
    # None: what the stage trains, whole where `lora_parts` names no adapters.
    lora_targets: Targets | None = None
    # Adapters to train further, on the same base: their directory, or the run that trained them.
    # None: new ones, which add nothing at first.
    lora_from: str | None = None

    # Steps between snapshots; None: `save_seconds` decide.
    save_steps: int | None = None
    # Seconds between snapshots.
    save_seconds: float = 600.0
    # The newest so many snapshots stay.
    keep: int = 2
    # Stop if a snapshot cannot be written, rather than warn and try again later.
    save_strict: bool = True
    # Write snapshots in a thread while training continues, from a copy in memory; None: on a GPU.
    save_async: bool | None = None
    # Where snapshots lie, if not in the run's directory: a directory or an address that fsspec
    # knows, such as s3://bucket/runs/a.
    snapshots: str | None = None

    # A step is skipped if its gradient's norm exceeds this, as it is if that is not finite.
    max_spike: float | None = None
    # So many skipped steps in a row end the run.
    max_skipped: int = 3
    # A process whose step takes longer prints its stacks and ends, as do those that wait for it.
    patience_seconds: float = 1800.0

    # Peak of one device in 1e12 operations per second, for `mfu` in the metrics; None: taken from
    # cost/devices.py, if it lists the device.
    peak_tflops: float | None = None

    # Steps between evaluations on the held-out procedural questions; 0: never.
    eval_steps: int = 0
    # Questions per scenario of such an evaluation.
    eval_questions: int = 60
    # The scenarios of such an evaluation.
    eval_scenarios: tuple[HeldoutScenario, ...] = ("single_image", "multi_image", "video")

    # Samples of the mixture that are held out, and whose loss is measured: a share of them, such as
    # 0.05, or a file of other records; None: none.
    held_out: str | None = None
    # Steps between measurements of the held-out loss; 0: a tenth of the run.
    held_out_steps: int = 0
    # Write the weights with the lowest held-out loss, not the last ones.
    keep_best: bool = True
    # End the run after so many measurements in a row without a lower loss; 0: never.
    early_stop: int = 0

    def __post_init__(self) -> None:
        for name in ("replicas", "context", "tensor", "keep", "max_skipped", "eval_questions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.save_steps is not None and self.save_steps < 1:
            raise ConfigError(f"save_steps is {self.save_steps}; expected at least 1, or None")
        for name in ("num_workers", "eval_steps", "lora_rank", "held_out_steps", "early_stop"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("save_seconds", "patience_seconds", "decode_seconds", "peak_tflops"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.max_bad_share <= 1:
            raise ConfigError(
                f"max_bad_share is {self.max_bad_share}; expected a share of the samples, 0 to 1"
            )
        self._check_adapters()
        self._check_held_out()
        self._check_offload()
        _ = self.lora  # raises

    def _check_adapters(self) -> None:
        """Refuses what would be ignored. Raises ConfigError."""
        names = [one.name for one in fields(self) if one.name.startswith("lora_")]
        told = [name for name in names if getattr(self, name) != getattr(RunOptions, name)]
        if told and not self.lora_rank:
            raise ConfigError(
                f"{told[-1]} is {getattr(self, told[-1])!r}, but there are no adapters; set "
                "lora_rank, for instance lora_rank=64"
            )
        if self.lora_dora and self.sharing == "shard":
            raise ConfigError(
                "lora_dora needs whole rows in fp32, and sharing=shard computes with bf16 copies "
                "of slices; set sharing=replicate, or leave lora_dora out"
            )
        if self.lora_targets is not None and (
            odd := {"lora_parts", "lora_layers"}.intersection(told)
        ):
            raise ConfigError(
                f"lora_targets={self.lora_targets} says where adapters are, and so does "
                f"{' and '.join(sorted(odd))}; set one of them"
            )

    def _check_held_out(self) -> None:
        """Refuses what would be ignored. Raises ConfigError."""
        if self.held_out is None:
            if self.held_out_steps or self.early_stop:
                raise ConfigError(
                    "held_out_steps and early_stop need held-out samples; set held_out to a share, "
                    "such as 0.05, or to a file of records"
                )
        else:
            parse_share(self.held_out)

    def _check_offload(self) -> None:
        """Refuses what cannot be had together. Raises ConfigError."""
        if self.offload_optimizer and self.sharing == "shard":
            raise ConfigError(
                "offload_optimizer moves whole moments, and sharing=shard divides them among the "
                "devices; set sharing=replicate, or leave offload_optimizer out"
            )
        if self.offload_activations and self.compiled:
            raise ConfigError(
                "offload_activations moves what plain blocks save, and compiled=true makes others "
                "of them; set one of the two"
            )

    @property
    def offload(self) -> Offload:
        """What lies in host memory."""
        return Offload(optimizer=self.offload_optimizer, activations=self.offload_activations)

    @property
    def lora(self) -> LoraConfig | None:
        """The adapters to train; None if whole parts train."""
        if not self.lora_rank:
            return None
        preset = None if self.lora_targets is None else PRESETS[self.lora_targets]
        return LoraConfig(
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            parts=self.lora_parts if preset is None else preset.parts,
            layers=self.lora_layers if preset is None else preset.layers,
            stabilised=self.lora_rslora,
            magnitudes=self.lora_dora,
            base=self.lora_base,
        )
