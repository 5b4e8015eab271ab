"""The held-out losses of a run -> its best step, whose weights are kept, and when to stop.

    validation.jsonl   {"step": 40, "loss": 0.83, "standard_error": 0.05, "samples": 52,
                        "seconds": 1.4}
    best/              a snapshot of the step with the lowest loss

A run that resumes reads both, so it decides as if it had never stopped.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onevision.errors import ConfigError, InputError
from onevision.files import Line, write_lines
from onevision.train.options import RunOptions
from onevision.train.report.metrics import StepMetrics
from onevision.train.report.notes import VALIDATION, Notes, read_notes
from onevision.train.snapshots import State, newest_snapshot, prune, snapshots, step_of
from onevision.train.state import restore_snapshot, save_snapshot
from onevision.train.trainer import Trainer
from onevision.train.validation.held_out import HeldOut

BEST = "best"
# Measurements of a run that does not say how many steps lie between two.
NUM_MEASUREMENTS = 10


@dataclass(kw_only=True)
class Losses:
    """The held-out losses measured so far, by step."""

    by_step: dict[int, float] = field(default_factory=dict)

    @property
    def best(self) -> int | None:
        """The first step with the lowest loss; None if none is measured."""
        return min(self.by_step, key=lambda step: (self.by_step[step], step), default=None)

    def written(self, *, keep_best: bool) -> int | None:
        """Returns the step whose weights a finished run writes; None if none is measured."""
        if not self.by_step:
            return None
        return self.best if keep_best and self.best else max(self.by_step)

    @property
    def num_stale(self) -> int:
        """How many measurements since the best were no better."""
        return sum(step > self.best for step in self.by_step if self.best is not None)


def read_losses(directory: Path) -> Losses:
    """Reads the held-out losses of a run, or none if it has measured none. Raises InputError."""
    lines = read_notes(directory / VALIDATION)
    return Losses(by_step={line["step"]: line["loss"] for line in lines})


class Validator:
    """Measures the held-out loss of a run at intervals; keeps the best weights; ends the run.

    It does nothing if no samples are held out.
    """

    def __init__(
        self,
        trainer: Trainer,
        held_out: HeldOut | None,
        *,
        directory: Path,
        content: State,
        on_validation: Callable[[Line], object],
        warn: Callable[[str], object],
        before_save: Callable[[], object] = lambda: None,
    ) -> None:
        """Every process makes one, after the trainer is restored; `content` is of a snapshot.

        `before_save` waits for another snapshot that is being written.

        Raises ConfigError if the options hold samples out and the objective does not.
        """
        if held_out is None and trainer.options.held_out is not None:
            raise ConfigError(
                f"held_out is {trainer.options.held_out}, but stage {trainer.stage.name} has no "
                "samples to hold out: it makes its own, or learns from pairs; leave held_out away"
            )
        self.trainer, self.held_out, self.directory = trainer, held_out, directory
        self.content, self.on_validation, self.warn = content, on_validation, warn
        self.options: RunOptions = trainer.options
        self.before_save = before_save
        self.best = directory / BEST
        self.losses = Losses()
        if held_out is not None:
            self._resume()

    @property
    def is_done(self) -> bool:
        """Whether the loss has not fallen for so long that the run ends."""
        most = self.options.early_stop
        return most > 0 and self.losses.num_stale >= most

    def until_done(self, steps: Iterator[StepMetrics]) -> Iterator[StepMetrics]:
        """Yields the steps of a run until it is done."""
        while not self.is_done and (metrics := next(steps, None)) is not None:
            yield metrics

    def measure_if_due(self, report_alive: Callable[[], object]) -> None:
        """Measures before the first step, at intervals, and after the last step, each once."""
        if self.held_out is None:
            return
        step, last = self.trainer.progress.step, self.trainer.feed.num_steps
        every = self.options.held_out_steps or max(1, last // NUM_MEASUREMENTS)
        if step in self.losses.by_step or (step % every and step < last):
            return
        began = time.monotonic()
        measured = self.held_out.measure_loss(self.trainer.learner, report_alive)
        loss, error = measured.mean, measured.standard_error
        before = self.losses.best
        is_better = before is None or loss < self.losses.by_step[before]
        if is_better and step and self.options.keep_best and not self._save_best():
            return
        self.losses.by_step[step] = loss
        line: Line = {
            "step": step,
            "loss": round(loss, 6),
            "standard_error": None if error is None else round(error, 6),
            "samples": self.held_out.num_samples,
            "seconds": round(time.monotonic() - began, 3),
        }
        if self.trainer.processes.rank == 0:
            Notes(self.directory / VALIDATION, warn=self.warn).add(line)
            self.on_validation(line | {"num_steps": last, "is_best": is_better})

    def restore_best(self) -> None:
        """Gives the network its best weights, if the run keeps those."""
        best, step = self.losses.best, self.trainer.progress.step
        if not self.options.keep_best or best in (None, step):
            return
        if best == 0:
            self.warn(
                "the held-out loss never fell below that of the model it began with; the weights "
                "of the last step are written: try a lower learning_rate, or look at the data"
            )
            return
        found = newest_snapshot(self.best, warn=self.warn)
        if found is None or step_of(found) != best:
            self.warn(f"{self.best}: the snapshot of step {best} is gone; the last step is written")
            return
        restore_snapshot(self.trainer, found)

    def _save_best(self) -> bool:
        self.before_save()
        try:
            newest = save_snapshot(self.trainer, self.best, content=self.content)
        except OSError as error:
            self.warn(f"{self.best}: cannot be written ({error}); make room")
            return False
        if self.trainer.processes.rank == 0:
            prune(self.best, keep=1, newest=newest)
        return True

    def _resume(self) -> None:
        """Reads the losses up to the trainer's step, and that of a best snapshot after it."""
        path, step = self.directory / VALIDATION, self.trainer.progress.step
        try:
            lines = read_notes(path)
        except InputError as error:
            self.warn(f"{error}; held-out losses before step {step} are forgotten")
            lines = list[Line]()
        later = {step_of(one) for one in snapshots(self.best)} if step else set()
        kept = [line for line in lines if step and (line["step"] <= step or line["step"] in later)]
        self.losses = Losses(by_step={line["step"]: line["loss"] for line in kept})
        self.trainer.processes.all_succeeded()  # all have read before one writes
        if self.trainer.processes.rank == 0 and path.is_file():
            write_lines(path, kept)
