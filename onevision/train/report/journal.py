"""What a run says of itself as it goes: a line a step, steps that were skipped, warnings.

metrics.jsonl, skipped.jsonl in the run's directory; TensorBoard, W&B; the caller's listeners
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from onevision.train.feed import MicroBatch
from onevision.train.report.display import Line
from onevision.train.report.metrics import MetricsLog, StepMetrics
from onevision.train.report.notes import SKIPPED, Notes


@dataclass(kw_only=True)
class Callbacks:
    """What a run calls with each step's line of metrics, each evaluation's line, and warnings."""

    on_step: Callable[[Line], object] = str
    on_evaluation: Callable[[Line], object] = str
    on_warning: Callable[[str], object] = str
    tensorboard: bool = False
    wandb: str | None = None  # a project


class Journal:
    """The lines of one process; only the first one, `main`, writes every step's.

    Use it as a context.
    """

    def __init__(self, output: Path, callbacks: Callbacks, *, main: bool) -> None:
        self.output, self.callbacks, self.main = output, callbacks, main
        self.skips = Notes(output / SKIPPED, warn=callbacks.on_warning)
        self._log: MetricsLog | None = None

    def begin(self, step: int, *, peak_flops: float | None) -> Self:
        """Open the files for what comes after `step`; lines after it are dropped.

        `peak_flops` is as in MetricsLog.
        """
        if self.main:
            self._log = MetricsLog(
                self.output,
                peak_flops=peak_flops,
                tensorboard=self.callbacks.tensorboard,
                wandb=self.callbacks.wandb,
                warn=self.callbacks.on_warning,
            )
            self._log.rewind(step)
            self.skips.rewind(step)
        return self

    def tell(self, metrics: StepMetrics) -> None:
        """Write a step and tell of it."""
        if self._log is not None:
            self.callbacks.on_step(self._log.write(metrics))

    def warn(self, text: str) -> None:
        """Say what all processes have seen, once."""
        if self.main:
            self.callbacks.on_warning(text)

    def skip(self, step: int, problem: str, suspects: Sequence[str]) -> None:
        """Note a step that changed nothing, and this process's samples to look at."""
        self.warn(f"step {step} was skipped: {problem}")
        if self.main or suspects:
            self.skips.add({"step": step, "problem": problem, "samples": list(suspects)})

    def split(self, step: int, one: MicroBatch) -> None:
        """Say that this process's memory did not hold a micro-batch."""
        self.callbacks.on_warning(
            f"step {step}: memory ran out ({one}); it is taken in two halves, which costs the time "
            "of a second try: recompute=true or a smaller max_tokens spares it"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._log is not None:
            self._log.close()
