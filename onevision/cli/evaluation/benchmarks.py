"""The benchmarks of `onevision eval`: answers them, prints the scores, compares two runs."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import get_args

from onevision.cli.evaluation.judges import print_usage
from onevision.cli.options import check_output
from onevision.commas import split_items
from onevision.errors import InputError
from onevision.eval.answers import SCORES, AnswerFiles
from onevision.eval.assemble import TaskQuestions
from onevision.eval.benchmark import EvalConfig, network_fingerprint, run_task
from onevision.eval.compare import compare_runs, find_runs
from onevision.eval.figures import score_answers
from onevision.eval.judging.panel import Panel
from onevision.eval.judging.registry import find_judged_benchmark
from onevision.eval.preflight import check_questions
from onevision.eval.question import QuestionSource
from onevision.eval.results import REPEAT, TaskResult
from onevision.eval.rows import open_rows
from onevision.eval.task import ALL, Profile, Task, bundled_tasks, find_tasks, groups
from onevision.generate.answer import Model
from onevision.plural import counted


@dataclass(kw_only=True)
class Benchmarks:
    """The tasks of one command, and the directory of their answers."""

    profile: Profile
    tasks: tuple[Task, ...]
    output: Path
    # The user's name for the data.
    place: str = ""
    questions: dict[str, QuestionSource] = field(default_factory=dict)
    # Scores free answers; None leaves judged tasks without metrics.
    panel: Panel | None = None

    def open(self, place: str, *, judged: bool, score_only: bool) -> None:
        """Open the data of all tasks, and try the first question of each. Raises DataError.

        To score answers that exist, only judges that see images need data.
        """
        self.place = place
        needed = [task for task in self.tasks if not score_only or (judged and _sees_images(task))]
        self.questions = {task.name: TaskQuestions(open_rows(task, place)) for task in needed}
        for questions in self.questions.values():
            check_questions(questions, judged=judged)

    def check(self, *, repeats: int) -> None:
        """Refuses options that contradict each other. Raises InputError."""
        if repeats < 1:
            raise InputError(f"--repeat is {repeats}; expected 1 or more")
        if repeats > 1 and not all(task.temperature for task in self.tasks):
            raise InputError(
                "--repeat asks the same questions again, and greedy answers stay the same; "
                "give --temperature, such as 0.2"
            )

    def run(self, model: Model, config: EvalConfig, name: str, *, repeats: int = 1) -> None:
        """Answer all tasks, score each as soon as it is done, and print its metrics.

        Repeats have seeds and folders of their own.
        """
        fingerprint = network_fingerprint(model)
        outputs = [self.output]
        if repeats > 1:
            outputs = [self.output / REPEAT.format(number) for number in range(1, repeats + 1)]
        found: list[dict[str, TaskResult]] = []
        for number, output in enumerate(outputs):
            found.append({})
            for task in self.tasks:
                run_task(
                    model,
                    self.questions[task.name],
                    AnswerFiles(output / task.name),
                    config=replace(config, seed=config.seed + number),
                    name=name,
                    place=self.place,
                    fingerprint=fingerprint,
                    on_progress=_Progress(task.name, config.limit),
                )
                if sys.stderr.isatty():
                    print(file=sys.stderr)
                found[-1][task.name] = self._score(output, task, complete=config.limit is None)
        self._print_summary(found)

    def score(self) -> None:
        """Score the answers there are, of all repeats, and print their metrics."""
        outputs = sorted(self.output.glob(REPEAT.format("*"))) or [self.output]
        self._print_summary(
            [{t.name: self._score(out, t, complete=None) for t in self.tasks} for out in outputs]
        )

    def _score(self, output: Path, task: Task, *, complete: bool | None) -> TaskResult:
        result = score_answers(
            AnswerFiles(output / task.name),
            complete=complete,
            panel=self.panel,
            questions=self.questions.get(task.name),
        )
        print_result(result)
        return result

    def _print_summary(self, repeats: Sequence[Mapping[str, TaskResult]]) -> None:
        """Print means over repeats, and over the parts whose mean the paper gives."""
        for task in self.tasks if len(repeats) > 1 else ():
            headlines = [one[task.name].headline for one in repeats]
            values = [headline.value for headline in headlines if headline is not None]
            if len(values) > 1:
                print(
                    f"{task.name}: {fmean(values):.4g} ± {stdev(values):.2g}, mean and standard "
                    f"deviation of {len(values)} runs"
                )
        averaged = {name for task in self.tasks if task.averaged for name in task.groups}
        for name, parts in groups(self.profile).items():
            if name not in averaged or not all(bundled_tasks()[part].averaged for part in parts):
                continue
            results = repeats[0] if len(repeats) == 1 else {}
            headlines = [results[part].headline for part in parts if part in results]
            values = [headline.value for headline in headlines if headline is not None]
            if len(values) == len(parts):
                print(f"{name}: {sum(values) / len(values):.4g}, the mean of {len(values)} parts")
        if self.panel is not None:
            print_usage(self.panel)


def select(
    names: str, profile: Profile, *, output: Path | None, temperature: float | None
) -> Benchmarks:
    """Find tasks by comma-separated names. Raises InputError, ConfigError."""
    if output is None:
        raise InputError("--tasks needs a folder for its answers; give --output")
    check_output(output, directory=True)
    tasks = find_tasks([name for name in split_items(names) if name], profile=profile)
    if not tasks:
        raise InputError("--tasks names no task; 'list' lists them")
    if temperature is not None:
        tasks = tuple(replace(task, temperature=temperature) for task in tasks)
    return Benchmarks(profile=profile, tasks=tasks, output=output)


def make_config(
    profile: str,
    batch_size: int,
    limit: int | None,
    seed: int,
    max_failed: float,
    *,
    keep: float | None = None,
) -> EvalConfig:
    """Return how tasks are run. Raises InputError, ConfigError."""
    for name, value in (("--batch-size", batch_size), ("--limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected 1 or more")
    return EvalConfig(
        profile=_check_profile(profile),
        batch_size=batch_size,
        limit=limit,
        seed=seed,
        max_failed=max_failed,
        keep=1.0 if keep is None else keep,
    )


def show_tasks(profile: str) -> None:
    """Print groups, and every task with what scores it."""
    checked = _check_profile(profile)
    for name, inside in groups(checked).items():
        print(
            f"{name:<28} {counted(len(inside), 'task')}"
            if name == ALL
            else f"{name:<28} {', '.join(inside)}"
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
            f"p {change.p:.2g}, {counted(found.num_items, 'item')}"
        )
        if (pairs := found.mcnemar) is not None:
            print(
                f"    right in one run only: {pairs.only_first} in the first, "
                f"{pairs.only_second} in the second; McNemar's p {pairs.p:.2g}"
            )


def print_result(result: TaskResult) -> None:
    """Print a task's metrics, and what its answers suffered from."""
    answers = f"{result.task}: {counted(result.num_answers, 'answer')}"
    if not result.complete:
        answers += " (not all rows)"
    if result.keep < 1:
        answers += f" with {result.keep:g} of the visual tokens"
    if headline := result.headline:
        print(
            f"{answers}, {headline.metric} {headline.value:.4g} "
            f"(95 %: {headline.low:.4g} to {headline.high:.4g})"
        )
        for name, value in result.metrics.items():
            if name != headline.metric:
                print(f"    {name:<40} {value:.4g}")
    elif result.judge:
        print(f"{answers}; no reply of the judge is readable, see {SCORES}")
    elif result.needs_judge:
        print(f"{answers}; they need a judge ({result.needs_judge}), give --judge")
    else:
        print(f"{answers}; {result.submission} is for the benchmark's server, which scores them")
    for remark in _list_remarks(result):
        print(f"    {remark}")


def _list_remarks(result: TaskResult) -> Iterator[str]:
    if judge := result.judge:
        if judge.num_unreadable:
            yield f"{judge.num_unreadable} of {judge.num_judged} are unreadable"
        if judge.std is not None:
            values = ", ".join(
                "-" if one.headline is None else f"{one.headline:.4g}" for one in judge.passes
            )
            yield (
                f"{len(judge.passes)} passes of judges: {values}; standard deviation "
                f"{judge.std:.2g}, {100 * (judge.share_changed or 0):.3g} % of the verdicts differ"
            )
    if result.num_cut_off:
        yield f"cut off at max_new_tokens: {counted(result.num_cut_off, 'answer')}"
    if result.num_failed:
        yield (
            f"scored as an empty answer, since it could not be asked: "
            f"{counted(result.num_failed, 'row')}; "
            f"the first: {result.first_failure}"
        )


class _Progress:
    """Prints how far a task is, if stderr is a terminal."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.name, self.limit = name, limit

    def __call__(self, num_done: int) -> None:
        if sys.stderr.isatty():
            of = f" of {self.limit}" if self.limit else ""
            print(f"\r{self.name}: {num_done}{of} answers", end="", file=sys.stderr, flush=True)


def _sees_images(task: Task) -> bool:
    return task.judge is not None and find_judged_benchmark(task.judge).sees_images


def _check_profile(name: str) -> Profile:
    for known in get_args(Profile):
        if name == known:
            return known
    raise InputError(f"--profile is {name!r}; expected one of {', '.join(get_args(Profile))}")
