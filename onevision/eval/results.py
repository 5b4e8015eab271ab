"""The results of one task: what `onevision eval` writes and `onevision report` reads back."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from onevision import __version__
from onevision.errors import ConfigError, DataError
from onevision.eval.answers import AnswerFiles, read_json
from onevision.eval.judging.judge import JudgeUsage
from onevision.eval.judging.panel import JudgePass
from onevision.eval.scoring.scorer import Unit
from onevision.eval.statistics import Interval
from onevision.values import from_plain, to_plain

# Version 1 had no unit, and `onevision report` could not read it.
FORMAT_VERSION = 2
# The folder of each run of a repeated evaluation.
REPEAT = "repeat-{}"
LIBRARIES = ("torch", "numpy", "pillow", "av", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class AnsweringModel:
    """The model that gave the answers."""

    # As it was given to --model.
    name: str
    # A hash of its weights, tokenizer and input rules.
    fingerprint: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class AnsweredData:
    """The files that held the task's rows."""

    # As it was given to --data.
    place: str
    files: tuple[str, ...]
    # The size of each file.
    bytes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Headline(Interval):
    """The metric that stands for the task, with its confidence interval."""

    metric: str


@dataclass(frozen=True, kw_only=True)
class JudgeSummary:
    """The model that judged the answers, and how many of its replies are readable."""

    # Several are joined by " + ".
    model: str
    num_judged: int
    num_unreadable: int
    # One per judge and round.
    passes: tuple[JudgePass, ...] = ()
    # The standard deviation of their headlines; None for a single pass.
    std: float | None = None
    # The share of the cases whose scores differ between passes; None for a single pass.
    share_changed: float | None = None
    # What the last judging of these answers took; remembered replies cost nothing.
    usage: JudgeUsage | None = None


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """A task's metrics, and everything they depend on."""

    task: str
    title: str
    profile: str
    seed: int
    # The share of visual tokens that the model read.
    keep: float = 1.0
    model: AnsweringModel
    data: AnsweredData
    num_answers: int
    # Whether every row has an answer.
    complete: bool
    # Answers that reached max_new_tokens.
    num_cut_off: int
    # Rows that could not be asked (a damaged image, a prompt that is too long), scored as empty
    # answers; and the first reason.
    num_failed: int = 0
    first_failure: str | None = None
    # Empty while a judge or the benchmark's server has yet to score the answers.
    metrics: Mapping[str, float] = field(default_factory=dict)
    headline: Headline | None = None
    unit: Unit | None = None
    # The judge that gave the metrics; None if rules did.
    judge: JudgeSummary | None = None
    # The judge that the metrics are waiting for.
    needs_judge: str | None = None
    # The file for the benchmark's server.
    submission: str | None = None
    # How many runs these are the means of, and the standard deviation of their headlines; None for
    # one run. Its interval is then the mean minus and plus that.
    num_runs: int = 1
    std: float | None = None
    # Seconds that answering took.
    seconds: float
    # When the metrics were computed, in UTC.
    scored: str
    versions: Mapping[str, str]
    # The task's fields.
    settings: Mapping[str, Any]  # Any: JSON values

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ConfigError(f"metric {name!r} is {value}; expected a finite number")
        if self.headline is not None and self.headline.metric not in self.metrics:
            raise ConfigError(
                f"the headline {self.headline.metric!r} is not among the metrics "
                f"{', '.join(self.metrics)}"
            )
        if (self.unit is None) != (self.headline is None):
            raise ConfigError("a headline comes with its unit, and a unit with its headline")


def write_result(result: TaskResult, files: AnswerFiles) -> None:
    """Writes a task's results.json, whole or not at all. Raises DataError."""
    files.write_results({"format_version": FORMAT_VERSION} | to_plain(result))


def read_result(path: Path) -> TaskResult:
    """Reads a results.json. Raises DataError if it is missing, damaged or of another version."""
    values = read_json(path)
    if (found := values.pop("format_version", 1)) != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {found}, expected {FORMAT_VERSION}; score the answers again: "
            "onevision eval --tasks TASK --output OUT --score-only"
        )
    try:
        return from_plain(TaskResult, values, where=str(path), complete=False, error=DataError)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def merge_repeats(results: Sequence[TaskResult]) -> TaskResult:
    """Returns the means of a task's repeated runs, over the metrics that all of them have."""
    first, *others = results
    if not others:
        return first
    are_scored = all(one.headline is not None for one in results)
    shared = [name for name in first.metrics if all(name in one.metrics for one in others)]
    metrics = {name: fmean(one.metrics[name] for one in results) for name in shared if are_scored}
    headline, spread = first.headline if are_scored else None, None
    if headline is not None:
        mean = metrics[headline.metric]
        spread = stdev(one.metrics[headline.metric] for one in results)
        headline = replace(headline, value=mean, low=mean - spread, high=mean + spread)
    return replace(
        first,
        metrics=metrics,
        headline=headline,
        unit=first.unit if headline else None,
        num_runs=len(results),
        std=spread,
        num_failed=sum(one.num_failed for one in results),
        num_cut_off=sum(one.num_cut_off for one in results),
        seconds=sum(one.seconds for one in results),
    )


def current_versions() -> dict[str, str]:
    """Returns the versions that answers and metrics may depend on."""
    found = {name: version(name) for name in LIBRARIES}
    return {"onevision": __version__, "python": platform.python_version()} | found
