"""The benchmarks of `onevision eval`: answers them, prints the scores, compares two runs."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from onevision.cli.options import check_output
from onevision.errors import InputError
from onevision.eval.answers import RESULTS, AnswerFiles
from onevision.eval.benchmark import EvalConfig, network_fingerprint, run_task
from onevision.eval.compare import compare_runs, find_runs
from onevision.eval.figures import score_answers
from onevision.eval.judging.client import EndpointConfig
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.registry import find_judged_benchmark
from onevision.eval.results import TaskResult
from onevision.eval.rows import Rows, open_rows
from onevision.eval.task import ALL, Profile, Task, bundled_tasks, find_tasks, groups
from onevision.generate.answer import Model

# Where a judge's replies are remembered, below --output.
JUDGE_MEMORY = "judge-replies"


@dataclass(kw_only=True)
class Benchmarks:
    """The tasks of one command, and the directory of their answers."""

    profile: Profile
    tasks: tuple[Task, ...]
    output: Path
    # Scores free answers; None leaves judged tasks without metrics.
    judge: Judge | None = None
    place: str = ""
    rows: dict[str, Rows] = field(default_factory=dict)

    @classmethod
    def select(cls, names: str, *, profile: str, output: Path | None, judged: bool) -> "Benchmarks":
        """Find tasks by comma-separated names. Raises InputError, ConfigError."""
        if output is None:
            raise InputError("--tasks needs a folder for its answers; give --output")
        check_output(output, directory=True)
        checked = _check_profile(profile)
        tasks = find_tasks([name for name in names.split(",") if name], profile=checked)
        judge = None
        if judged:
            endpoint = EndpointConfig.from_environment(os.environ)
            judge = Judge(endpoint, memory=output / JUDGE_MEMORY)
        return cls(profile=checked, tasks=tasks, output=output, judge=judge)

    def config(self, *, batch_size: int, limit: int | None, seed: int) -> EvalConfig:
        """Return how the tasks are run. Raises InputError."""
        for name, value in (("--batch-size", batch_size), ("--limit", limit)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected 1 or more")
        return EvalConfig(profile=self.profile, batch_size=batch_size, limit=limit, seed=seed)

    def open(self, place: str) -> None:
        """Open the data of all tasks. Raises DataError for the first that is missing."""
        self.place = place
        self.rows = {task.name: open_rows(task, place) for task in self.tasks}

    def open_for_judge(self, place: str) -> None:
        """Open the data of the tasks whose judge sees the images. Raises DataError, InputError."""
        self.rows = {
            task.name: open_rows(task, place)
            for task in self.tasks
            if self.judge is not None
            and task.judge is not None
            and find_judged_benchmark(task.judge).sees_images
        }

    def run(self, model: Model, *, config: EvalConfig, name: str) -> None:
        """Answer all tasks, score each as soon as it is done, and print its metrics."""
        fingerprint = network_fingerprint(model)
        results: dict[str, TaskResult] = {}
        for task in self.tasks:
            run_task(
                model,
                self.rows[task.name],
                self._files(task),
                config=config,
                name=name,
                place=self.place,
                fingerprint=fingerprint,
                on_progress=_Progress(task.name, config.limit),
            )
            if sys.stderr.isatty():
                print(file=sys.stderr)
            results[task.name] = self._score(task, complete=config.limit is None)
        self._print_summary(results)

    def score(self) -> None:
        """Score the answers there are, and print their metrics."""
        self._print_summary({task.name: self._score(task, complete=None) for task in self.tasks})

    def _files(self, task: Task) -> AnswerFiles:
        return AnswerFiles(self.output / task.name)

    def _score(self, task: Task, *, complete: bool | None) -> TaskResult:
        rows = self.rows.get(task.name)
        result = score_answers(self._files(task), complete=complete, judge=self.judge, rows=rows)
        _print_result(result)
        return result

    def _print_summary(self, results: Mapping[str, TaskResult]) -> None:
        """Print the means over parts that the paper gives, if all parts have a score."""
        averaged = {name for task in self.tasks if task.averaged for name in task.groups}
        for name, parts in groups(self.profile).items():
            if name not in averaged or not all(bundled_tasks()[part].averaged for part in parts):
                continue
            headlines = [results[part].headline for part in parts if part in results]
            values = [headline.value for headline in headlines if headline is not None]
            if len(values) == len(parts):
                print(f"{name}: {sum(values) / len(values):.4g}, the mean of {len(values)} parts")
        if self.judge is not None:
            usage = self.judge.usage
            cost = "" if usage.cost is None else f", cost {usage.cost:.4g}"
            print(
                f"judge {self.judge.config.model}: {usage.num_asked} queries, "
                f"{usage.num_remembered} remembered, {usage.prompt_tokens} tokens in, "
                f"{usage.completion_tokens} out{cost}"
            )


def show_tasks(profile: str) -> None:
    """Print groups, and every task with what scores it."""
    checked = _check_profile(profile)
    for name, inside in groups(checked).items():
        print(
            f"{name:<28} {len(inside)} tasks" if name == ALL else f"{name:<28} {', '.join(inside)}"
        )
    print()
    for task in bundled_tasks(checked).values():
        scorers = [task.scorer, f"judge {task.judge}" if task.judge else None]
        names = " or ".join(filter(None, scorers)) or "the benchmark's server"
        print(f"{task.name:<36} {task.title:<24} {task.dataset}: {names}")


def show_comparison(first: Path, second: Path) -> None:
    """Print how the second run differs from the first, task by task."""
    mine, theirs = find_runs(first), find_runs(second)
    shared = [name for name in mine if name in theirs]
    if not shared:
        raise InputError(f"{first} and {second} have no task in common")
    for name in shared:
        if mine[name].settings()["task"]["scorer"] is None:
            print(f"{name}: has no local score")
            continue
        found = compare_runs(mine[name], theirs[name])
        change = found.difference
        print(
            f"{name} {found.metric}: {found.first:.4g} -> {found.second:.4g}, "
            f"{change.value:+.4g} (95 %: {change.low:+.4g} to {change.high:+.4g}), "
            f"p {change.p:.2g}, {found.num_items} items"
        )
        if (pairs := found.mcnemar) is not None:
            print(
                f"    right in one run only: {pairs.only_first} in the first, "
                f"{pairs.only_second} in the second; McNemar's p {pairs.p:.2g}"
            )


def _print_result(result: TaskResult) -> None:
    answers = f"{result.task}: {result.num_answers} answers"
    if not result.complete:
        answers += " (not all rows)"
    if headline := result.headline:
        print(
            f"{answers}, {headline.metric} {headline.value:.4g} "
            f"(95 %: {headline.low:.4g} to {headline.high:.4g})"
        )
        for name, value in result.metrics.items():
            if name != headline.metric:
                print(f"    {name:<40} {value:.4g}")
    elif result.judge:
        print(f"{answers}; no reply of the judge is readable, see {RESULTS}")
    elif result.needs_judge:
        print(f"{answers}; they need a judge ({result.needs_judge}), give --judge")
    else:
        print(f"{answers}; {result.submission} is for the benchmark's server, which scores them")
    if result.judge and result.judge.num_unreadable:
        print(f"    {result.judge.num_unreadable} of {result.judge.num_judged} are unreadable")
    if result.num_cut_off:
        print(f"    {result.num_cut_off} answers reached max_new_tokens and are cut off")


class _Progress:
    """Prints how far a task is, if stderr is a terminal."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.name, self.limit = name, limit

    def __call__(self, num_done: int) -> None:
        if sys.stderr.isatty():
            of = f" of {self.limit}" if self.limit else ""
            print(f"\r{self.name}: {num_done}{of} answers", end="", file=sys.stderr, flush=True)


def _check_profile(name: str) -> Profile:
    for known in get_args(Profile):
        if name == known:
            return known
    raise InputError(f"--profile is {name!r}; expected one of {', '.join(get_args(Profile))}")
