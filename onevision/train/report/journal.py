"""What happens in a run -> metrics.jsonl, skipped.jsonl, TensorBoard, W&B, and callbacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from onevision.files import Line
from onevision.train.feed import MicroBatch
from onevision.train.report.metrics import MetricsLog, StepMetrics
from onevision.train.report.notes import SKIPPED, Notes


@dataclass(kw_only=True)
class Callbacks:
    """The callbacks of a run: for lines of metrics, evaluations, held-out losses; for warnings."""

    on_step: Callable[[Line], object] = str
    on_evaluation: Callable[[Line], object] = str
    on_validation: Callable[[Line], object] = str
    on_warning: Callable[[str], object] = str
    tensorboard: bool = False
    wandb: str | None = None  # a project


class Journal:
    """The reports of one process; only the first process, `main`, writes every step.

    It is a context manager.
    """

    def __init__(self, output: Path, callbacks: Callbacks, *, main: bool) -> None:
        self.output, self.callbacks, self.main = output, callbacks, main
        self.skips = Notes(output / SKIPPED, warn=callbacks.on_warning)
        self._log: MetricsLog | None = None

    def begin(self, step: int, *, peak_flops: float | None) -> Self:
        """Opens the files to continue after `step`; later lines are dropped.

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
        """Writes a step and calls the callback."""
        if self._log is not None:
            self.callbacks.on_step(self._log.write(metrics))

    def warn(self, text: str) -> None:
        """Warns once of what all processes have seen."""
        if self.main:
            self.callbacks.on_warning(text)

    def skip(self, step: int, problem: str, suspects: Sequence[str]) -> None:
        """Notes a skipped step, and the samples of this process to look at."""
        self.warn(f"step {step} was skipped: {problem}")
        if self.main or suspects:
            self.skips.add({"step": step, "problem": problem, "samples": list(suspects)})

    def split(self, step: int, one: MicroBatch) -> None:
        """Warns that a micro-batch did not fit into this process's memory."""
        self.callbacks.on_warning(
            f"step {step}: out of memory ({one}); it is taken in two halves, which costs the time "
            "of a second try: recompute=true or a smaller max_tokens avoids it"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._log is not None:
            self._log.close()
