"""A line of metrics -> a terminal, TensorBoard, Weights & Biases."""

import importlib
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from onevision.errors import InputError
from onevision.extras import imports_of_extra
from onevision.files import Line

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Steps between two lines without a terminal; the loss shown is the mean of as many steps.
EVERY_STEPS = 20


class ProgressDisplay:
    """A progress bar on a terminal; elsewhere a line every `every_steps` steps and for the last.

    `console` is usually on stderr. It is a context manager: leaving it ends the bar.
    """

    def __init__(self, console: Console, *, every_steps: int = EVERY_STEPS) -> None:
        self.console, self.every_steps = console, every_steps
        self.losses: deque[float] = deque(maxlen=every_steps)
        self.num_skipped = 0
        self.figures = Text()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.0f} %"),
            expand=True,
        )
        self.task = self.bar.add_task("")
        self.live = Live(Group(self.bar, self.figures), console=console)

    def show(self, line: Line) -> None:
        """Shows one line of metrics, as `MetricsLog.write` returns it."""
        self.num_skipped += line["skipped"]
        if line["loss"] is not None:
            self.losses.append(line["loss"])
        if self.console.is_terminal:
            self._move_bar(line)
        elif line["step"] % self.every_steps == 0 or line["step"] == line["num_steps"]:
            where = f"{line['stage']} {_steps(line)}"
            self.console.print(
                "  ".join([where, *self._figures(line)]),
                soft_wrap=True,
                markup=False,
                highlight=False,
            )

    def show_evaluation(self, line: Line) -> None:
        """Shows one line of eval.jsonl."""
        shares = [f"{name} {100 * share:.1f} %" for name, share in line["accuracy"].items()]
        title = f"held-out questions after step {line['step']:,}"
        self.console.print("  ".join([title, *shares]), soft_wrap=True, highlight=False)

    def show_validation(self, line: Line) -> None:
        """Shows one line of validation.jsonl."""
        when = f"after step {line['step']:,}" if line["step"] else "before the first step"
        best = ", the best so far" if line["is_best"] and line["step"] else ""
        text = f"held-out loss {when}: {line['loss']:.4g}{best}"
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def _move_bar(self, line: Line) -> None:
        self.bar.update(
            self.task,
            total=line["num_steps"],
            completed=line["step"],
            description=f"{line['stage']} {_steps(line)}",
        )
        self.figures.plain = "  ".join(self._figures(line))
        self.live.start()

    def _figures(self, line: Line) -> list[str]:
        """Returns the figures of a step, each with its name."""
        loss = f"{sum(self.losses) / len(self.losses):.4g}" if self.losses else "not finite"
        figures = [
            f"loss {loss}",
            *([f"accuracy {line['accuracy']:.0%}"] if line.get("accuracy") is not None else []),
            f"{line['tokens_per_second']:,.0f} tok/s",
            *([f"MFU {line['mfu']:.1%}"] if "mfu" in line else []),
            f"waiting for data {line['data_wait']:.0%}",
            f"left {timedelta(seconds=round(line['eta_seconds']))}",
        ]
        return figures + ([f"skipped {self.num_skipped}"] if self.num_skipped else [])


def _steps(line: Line) -> str:
    return f"{line['step']:,}/{line['num_steps']:,}"


class Board(Protocol):
    """A place that shows the numbers of metrics.jsonl."""

    name: str

    def write(self, line: Line) -> None:
        """Writes one line. Raises OSError."""

    def rewind(self) -> None:
        """Prepares for steps that were written before."""

    def close(self) -> None:
        """Writes what is pending. Raises OSError."""


class TensorBoard:
    """Scalars in an event file; a step that is written again hides the earlier one."""

    def __init__(self, directory: Path) -> None:
        self.name, self.directory = f"TensorBoard in {directory}", directory
        _import("tensorboard")
        self.writer: SummaryWriter | None = None

    def write(self, line: Line) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.directory), purge_step=line["step"])
        for name, value in _scalars(line):
            self.writer.add_scalar(name, value, global_step=line["step"])

    def rewind(self) -> None:
        self.close()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class WeightsAndBiases:
    """A run of a W&B project; a resumed run is a new run of the same group."""

    def __init__(self, project: str, directory: Path) -> None:
        self.name, self.wandb = f"W&B project {project}", _import("wandb")
        name = directory.resolve().name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.run = self.wandb.init(project=project, dir=str(directory), name=name, group=name)
        except (OSError, self.wandb.Error) as error:
            raise InputError(
                f"{self.name} cannot be opened ({error}); log in with `wandb login`, set "
                "WANDB_MODE=offline, or train without it"
            ) from error
        self.run.define_metric("*", step_metric="step")

    def write(self, line: Line) -> None:
        try:
            self.run.log(dict(_scalars(line)))
        except self.wandb.Error as error:
            raise OSError(str(error)) from error

    def rewind(self) -> None:
        """Does nothing: the horizontal axis is `step`, which may go back."""

    def close(self) -> None:
        self.run.finish()


def _scalars(line: Line) -> Iterator[tuple[str, float]]:
    """Yields every number of a line; those by source or part have a slash in their names."""
    for key, value in line.items():
        if isinstance(value, dict):
            yield from ((f"{key}/{name}", number) for name, number in _scalars(value))
        elif isinstance(value, int | float):
            yield key, float(value)


def _import(package: Literal["tensorboard", "wandb"]) -> ModuleType:
    message = (
        f"writing metrics to {package} needs the package, which is not installed; "
        f"pip install 'onevision[{package}]', or train without it"
    )
    with imports_of_extra(package, message):
        return importlib.import_module(package)
