"""How a stage is run, apart from what it learns: precision, sharing, saving, patience."""

from dataclasses import dataclass
from typing import Literal

from onevision.errors import ConfigError
from onevision.eval.heldout import HeldoutScenario
from onevision.train.lora.layers import Base, LoraConfig, Part
from onevision.train.parallel import Sharing

# Every target of a step counts the same; or, as in the reference, every micro-batch does.
LossMean = Literal["tokens", "micro_batches"]
Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Settings of a run. Raises ConfigError where a value is out of range."""

    seed: int = 0
    device: str = "cpu"
    # Of the arithmetic; weights, moments and sums of gradients are fp32 in either.
    precision: Precision = "bf16"
    loss_mean: LossMean = "tokens"
    # Several processes hold the whole model each, or a slice each (FSDP2); with `replicas` slices
    # are held that many times (HSDP).
    sharing: Sharing = "replicate"
    replicas: int = 1
    # Keep the inputs of blocks and run them again backwards: less memory, a third more time.
    recompute: bool = False
    compiled: bool = False
    num_workers: int = 2
    # A worker that takes longer over a sample is replaced; a sample that costs two is left out.
    decode_seconds: float = 120.0
    # What `onevision data check --manifest` wrote: learn from exactly those samples of the mixture.
    manifest: str | None = None
    # A directory that keeps what a frozen vision encoder makes of each crop; see `features`.
    features: str | None = None

    # Adapters of this rank learn in place of `lora_parts` (0: none do); see `lora.LoraConfig`.
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_parts: tuple[Part, ...] = ("language_model",)
    lora_base: Base = "full"

    # A snapshot every so many steps, or else every so many seconds; the newest `keep` stay.
    save_steps: int | None = None
    save_seconds: float = 600.0
    keep: int = 2
    # Stop where a snapshot cannot be written, rather than warn and try again later.
    save_strict: bool = False

    # Steps whose loss or gradient is no number, or whose gradient is longer than
    # `max_spike`, change nothing; so many in a row end the run.
    max_spike: float | None = None
    max_skipped: int = 3
    # A step that takes longer ends the process with its stacks printed; a process that others wait
    # for so long ends them too.
    patience_seconds: float = 1800.0

    # What one device can do in a second, in units of 1e12 operations, for the share of it that the
    # model uses (`mfu` in the metrics); None: as `devices.py` knows it, if it does.
    peak_tflops: float | None = None

    # Questions of the held-out set asked every so many steps (0: never).
    eval_steps: int = 0
    eval_questions: int = 60
    eval_scenarios: tuple[HeldoutScenario, ...] = ("single_image", "multi_image", "video")

    def __post_init__(self) -> None:
        for name in ("replicas", "keep", "max_skipped", "eval_questions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.save_steps is not None and self.save_steps < 1:
            raise ConfigError(f"save_steps is {self.save_steps}; expected at least 1, or None")
        for name in ("num_workers", "eval_steps", "lora_rank"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("save_seconds", "patience_seconds", "decode_seconds", "peak_tflops"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")
        _ = self.lora  # raises

    @property
    def lora(self) -> LoraConfig | None:
        """The adapters to train; None where whole parts are."""
        if not self.lora_rank:
            return None
        return LoraConfig(
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            parts=self.lora_parts,
            base=self.lora_base,
        )
