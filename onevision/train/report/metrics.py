"""Measurements of a training step -> a line of metrics.jsonl, TensorBoard and Weights & Biases.

The log never stops a run: lines that cannot be written are kept and retried, with one warning.
"""

import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from onevision.errors import InputError
from onevision.files import Line, append_lines, parse_line, read_lines, whole_lines, write_bytes
from onevision.train.report.display import Board, TensorBoard, WeightsAndBiases

if TYPE_CHECKING:
    import torch

METRICS = "metrics.jsonl"
# The remaining time is estimated from the mean duration of so many steps.
ETA_STEPS = 50
# Lines kept while the disk cannot be written; older ones are dropped.
MAX_PENDING = 10_000


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """Measurements of one optimiser step, over all processes."""

    step: int  # from 1
    num_steps: int  # of the whole run
    stage: str
    loss: float  # nats per supervised token
    loss_per_source: dict[str, float]
    learning_rates: dict[str, float]  # by part that trains
    grad_norm: float  # before clipping
    samples: int  # from the start of the run to the end of this step
    tokens: int  # of this step, visual tokens and padding included
    supervised_tokens: int  # of this step: tokens with a label
    seconds: float  # of this step, waiting for data included
    data_seconds: float  # of this step, waiting for data
    memory_bytes: int  # the peak so far: see `peak_memory_bytes`
    flops: float  # of this step, forward and backward, vision included
    skipped: bool  # whether the weights stayed the same, as for a gradient that is not finite
    # What the objective adds to the line, such as the rewards of pairs.
    statistics: dict[str, float] = field(default_factory=dict)

    @property
    def has_update(self) -> bool:
        """Whether the step moved a weight by its gradient."""
        return not self.skipped and self.grad_norm > 0 and any(self.learning_rates.values())


class MetricsLog:
    """The lines of a run, in `directory`/metrics.jsonl; a new log appends to an existing file.

    `peak_flops` is the peak of all devices together, per second; with it, lines whose operations
    were counted have `mfu`, the model FLOPs utilisation (arXiv 2204.02311, appendix B):
    flops / (seconds * peak). `wandb` is the name of a project. `warn` is called once for each place
    that cannot be written. `clock` counts seconds, monotonically. Raises InputError if TensorBoard
    or W&B is requested but not available.
    """

    def __init__(
        self,
        directory: Path,
        *,
        peak_flops: float | None = None,
        tensorboard: bool = False,
        wandb: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.path, self.peak_flops = directory / METRICS, peak_flops
        self.clock, self.warn = clock, warn
        self.boards: list[Board] = []
        if tensorboard:
            self.boards.append(TensorBoard(directory / "tensorboard"))
        if wandb is not None:
            self.boards.append(WeightsAndBiases(wandb, directory))
        self.pending: deque[tuple[int, Line]] = deque(maxlen=MAX_PENDING)  # (step, line)
        self.warned: set[str] = set()
        self.elapsed_before = 0.0  # seconds of the run before this log began
        self.began = clock()
        self._forget_pace()

    def write(self, metrics: StepMetrics) -> Line:
        """Writes one step and returns its line, which adds speeds, shares and times.

        A value that is not finite becomes null, and `not_finite` holds what it was.
        """
        measured = asdict(metrics)
        line = _strict(measured | measured.pop("statistics") | self._derived(metrics))
        self.pending.append((metrics.step, line))
        self._attempt(str(self.path), self._append)
        for board in self.boards:
            self._attempt(board.name, lambda board=board: board.write(line))
        return line

    def rewind(self, step: int) -> None:
        """Drops the lines after `step` (0: all lines), and any that a crash left incomplete."""
        self.pending = deque((p for p in self.pending if p[0] <= step), maxlen=MAX_PENDING)
        self._attempt(str(self.path), lambda: self._rewind_file(step))
        for board in self.boards:
            self._attempt(board.name, board.rewind)
        self._forget_pace()

    def close(self) -> None:
        """Writes what is pending and closes TensorBoard and W&B."""
        if self.pending:
            self._attempt(str(self.path), self._append)
        for board in self.boards:
            self._attempt(board.name, board.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _derived(self, metrics: StepMetrics) -> dict[str, float]:
        elapsed = self.clock() - self.began
        seconds = max(metrics.seconds, 1e-9)
        derived = {
            "tokens_per_second": metrics.tokens / seconds,
            "supervised_tokens_per_second": metrics.supervised_tokens / seconds,
            "data_wait": metrics.data_seconds / seconds,
        }
        if self.peak_flops is not None and metrics.flops > 0:  # 0 if they were not counted
            derived["mfu"] = metrics.flops / (seconds * self.peak_flops)
        remaining = max(0, metrics.num_steps - metrics.step)
        derived["eta_seconds"] = remaining * self._pace(metrics, elapsed)
        derived["elapsed_seconds"] = self.elapsed_before + elapsed
        return {name: float(f"{value:.6g}") for name, value in derived.items()}

    def _pace(self, metrics: StepMetrics, elapsed: float) -> float:
        """Returns the mean seconds of recent steps, including what happens between them."""
        steps = metrics.step - self.last_step
        timed = self.durations and steps > 0
        self.durations.append((elapsed - self.last_elapsed) / steps if timed else metrics.seconds)
        self.last_step, self.last_elapsed = metrics.step, elapsed
        return sum(self.durations) / len(self.durations)

    def _forget_pace(self) -> None:
        self.durations: deque[float] = deque(maxlen=ETA_STEPS)
        self.last_step, self.last_elapsed = 0, 0.0

    def _attempt(self, place: str, act: Callable[[], None]) -> None:
        """Does what may fail with an OSError; the first failure of each place is a warning."""
        try:
            act()
        except OSError as error:
            if place not in self.warned:
                self.warned.add(place)
                self.warn(
                    f"{place}: metrics cannot be written ({error.strerror or error}); training "
                    "continues and retries with the next line: free some space or fix the path"
                )

    def _append(self) -> None:
        while self.pending:
            append_lines(self.path, [self.pending[0][1]], sync=False)
            self.pending.popleft()

    def _rewind_file(self, step: int) -> None:
        self.elapsed_before, self.began = 0.0, self.clock()
        if not self.path.exists():
            return
        kept = []
        for raw in whole_lines(self.path.read_bytes()):
            line = parse_line(raw, key="step")
            if line is not None and line["step"] <= step:
                kept.append(raw + b"\n")
                self.elapsed_before = line.get("elapsed_seconds", 0.0)
        write_bytes(self.path, b"".join(kept))


def read_metrics(path: Path) -> list[Line]:
    """Returns the lines of a metrics.jsonl; an incomplete last line is left out.

    Raises InputError if the file does not exist, or another line is not one of metrics.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a directory that a training run wrote")
    return read_lines(path, key="step", error=InputError)


def peak_memory_bytes(device: "torch.device") -> int:
    """Returns the peak memory so far: tensors on a GPU, or this process's resident memory."""
    if device.type == "cuda":
        import torch  # here, so that reading a log does not import it

        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """Returns the peak resident memory of this process, in bytes.

    On Linux it is read from `/proc`: the peak in `getrusage` includes that of the parent process
    before the fork.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _strict(line: Line) -> Line:
    """Returns the line as strict JSON, which has neither NaN nor infinity."""
    strict: Line = {}
    not_finite: dict[str, str] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            inner = _strict(value)
            found = inner.pop("not_finite", {})
            not_finite |= {f"{key}/{name}": text for name, text in found.items()}
            strict[key] = inner
        elif isinstance(value, float) and not math.isfinite(value):
            strict[key], not_finite[key] = None, str(value)
        else:
            strict[key] = value
    return strict | ({"not_finite": not_finite} if not_finite else {})
