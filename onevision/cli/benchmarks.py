"""The benchmarks of `onevision eval`: asks them, prints what they came to, compares two runs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from onevision.errors import InputError
from onevision.eval.answers import AnswerFiles
from onevision.eval.benchmark import Asking, network_fingerprint, run_task
from onevision.eval.figures import compare, runs_in, score
from onevision.eval.rows import Rows, open_rows
from onevision.eval.task import ALL, Profile, Task, bundled, find_tasks, groups
from onevision.files import Line
from onevision.generate.answer import Model


@dataclass(kw_only=True)
class Benchmarks:
    """The tasks of one call, and where their answers go."""

    profile: Profile
    tasks: tuple[Task, ...]
    output: Path
    place: str = ""
    rows: dict[str, Rows] = field(default_factory=dict)

    @classmethod
    def chosen(cls, names: str, *, profile: str, output: Path | None) -> "Benchmarks":
        """Find tasks by names with commas between. Raises InputError, ConfigError."""
        if output is None:
            raise InputError("--tasks needs a folder for its answers; give --output")
        known = _profile(profile)
        wanted = [name for name in names.split(",") if name]
        return cls(profile=known, tasks=find_tasks(wanted, profile=known), output=output)

    def asking(self, *, batch_size: int, limit: int | None, seed: int) -> Asking:
        """Return how the tasks are asked. Raises InputError."""
        for name, value in (("--batch-size", batch_size), ("--limit", limit)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected 1 or more")
        return Asking(profile=self.profile, batch_size=batch_size, limit=limit, seed=seed)

    def open(self, place: str) -> None:
        """Open the data of all tasks. Raises DataError for the first that is not there."""
        self.place = place
        self.rows = {task.name: open_rows(task, place) for task in self.tasks}

    def run(self, model: Model, *, asking: Asking, name: str) -> None:
        """Ask all tasks, score each as soon as it is done, and print its figures."""
        fingerprint = network_fingerprint(model)
        results: dict[str, Line] = {}
        for task in self.tasks:
            files = AnswerFiles(self.output / task.name)
            run_task(
                model,
                self.rows[task.name],
                files,
                asking=asking,
                name=name,
                place=self.place,
                fingerprint=fingerprint,
                tell=_Progress(task.name, asking.limit),
            )
            if sys.stderr.isatty():
                print(file=sys.stderr)
            results[task.name] = score(files, complete=asking.limit is None)
            _print_results(results[task.name])
        self._print_averages(results)

    def score(self) -> None:
        """Score the answers that are there, and print their figures."""
        results = {}
        for task in self.tasks:
            results[task.name] = score(AnswerFiles(self.output / task.name))
            _print_results(results[task.name])
        self._print_averages(results)

    def _print_averages(self, results: Mapping[str, Line]) -> None:
        """Print the means that the paper gives of tasks in parts, where all parts have a figure."""
        averaged = {name for task in self.tasks if task.averaged for name in task.groups}
        for name, parts in groups(self.profile).items():
            if name not in averaged or not all(bundled()[part].averaged for part in parts):
                continue
            found = [results[p]["headline"]["value"] for p in parts if p in results]
            if len(found) == len(parts):
                print(f"{name}: {sum(found) / len(found):.4g}, the mean of {len(found)} parts")


def show_tasks(profile: str) -> None:
    """Print groups, and every task with what it is scored by."""
    known = _profile(profile)
    for name, inside in groups(known).items():
        print(
            f"{name:<28} {len(inside)} tasks" if name == ALL else f"{name:<28} {', '.join(inside)}"
        )
    print()
    for task in bundled(known).values():
        scored = [task.scorer, f"judge {task.judge}" if task.judge else None]
        said = " or ".join(filter(None, scored)) or "the benchmark's server"
        print(f"{task.name:<36} {task.title:<24} {task.dataset}: {said}")


def show_comparison(first: Path, second: Path) -> None:
    """Print how the second run differs from the first, task by task."""
    mine, theirs = runs_in(first), runs_in(second)
    shared = [name for name in mine if name in theirs]
    if not shared:
        raise InputError(f"{first} and {second} have no task in common")
    for name in shared:
        if mine[name].settings()["task"]["scorer"] is None:
            print(f"{name}: has no local score")
            continue
        found = compare(mine[name], theirs[name])
        change = found.difference
        print(
            f"{name} {found.metric}: {found.first:.4g} -> {found.second:.4g}, "
            f"{change.value:+.4g} (95 %: {change.low:+.4g} to {change.high:+.4g}), "
            f"p {change.p:.2g}, {found.num_items} items"
        )
        if (pairs := found.mcnemar) is not None:
            print(
                f"    right in one run alone: {pairs.only_first} in the first, "
                f"{pairs.only_second} in the second; McNemar's p {pairs.p:.2g}"
            )


def _print_results(results: Line) -> None:
    said = f"{results['task']}: {results['num_answers']} answers"
    if not results["complete"]:
        said += " (not all rows)"
    if headline := results["headline"]:
        print(
            f"{said}, {headline['metric']} {headline['value']:.4g} "
            f"(95 %: {headline['low']:.4g} to {headline['high']:.4g})"
        )
        for name, value in list(results["metrics"].items()):
            if name != headline["metric"]:
                print(f"    {name:<40} {value:.4g}")
    elif results["needs_judge"]:
        print(f"{said}; they need a judge ({results['needs_judge']}), no score yet")
    else:
        print(f"{said}; {results['submission']} is for the benchmark's server, which scores them")
    if results["answers_cut_off"]:
        print(f"    {results['answers_cut_off']} answers reached max_new_tokens and are cut off")


class _Progress:
    """Says how far a task is, on a terminal alone."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.name, self.limit = name, limit

    def __call__(self, done: int) -> None:
        if sys.stderr.isatty():
            of = f" of {self.limit}" if self.limit else ""
            print(f"\r{self.name}: {done}{of} answers", end="", file=sys.stderr, flush=True)


def _profile(name: str) -> Profile:
    for known in get_args(Profile):
        if name == known:
            return known
    raise InputError(f"--profile is {name!r}; expected one of {', '.join(get_args(Profile))}")
