"""Results of runs + what the paper reports -> one table: a row a figure, a column a model."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from onevision.errors import InputError

RESULTS = "results.json"  # or a name that ends so, as in ai2d.results.json
GROUPS = ("single-image", "multi-image", "video", "other")
# Beside whom a report puts its runs, where it is not told.
BESIDE = ("0.5b", "7b", "72b", "gpt-4v", "gpt-4o")
_FIELDS = ("task", "metrics", "headline", "interval", "model", "settings")


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The figures of one task, as a run has written them."""

    task: str
    metrics: Mapping[str, float]
    headline: str
    interval: tuple[float, float] | None  # about the headline
    model: str
    settings: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the paper's tables."""

    title: str
    group: str
    table: int
    task: str
    metric: str | None  # None is the task's headline
    most: float  # the end of its axis in plots
    digits: int
    note: str
    scores: Mapping[str, float]  # by model


@dataclass(frozen=True, kw_only=True)
class Column:
    """One model: of a run, or published."""

    name: str
    title: str
    is_published: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure, and the interval that a run gives with it."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of all models that have it."""

    title: str
    group: str
    most: float
    digits: int
    note: str
    cells: Mapping[str, Cell]  # by column

    def say(self, column: Column) -> str:
        """Write a cell: its value, and its interval in brackets; a dash where there is none."""
        cell = self.cells.get(column.name)
        if cell is None:
            return "-"
        said = f"{cell.value:.{self.digits}f}"
        if cell.interval is None:
            return said
        low, high = cell.interval
        return f"{said} [{low:.{self.digits}f}, {high:.{self.digits}f}]"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table."""

    columns: tuple[Column, ...]  # runs first
    rows: tuple[Row, ...]  # by group
    settings: Mapping[str, Mapping[str, object]]  # of each run's column, by task

    @property
    def runs(self) -> tuple[Column, ...]:
        """The columns of runs."""
        return tuple(column for column in self.columns if not column.is_published)

    def groups(self) -> Iterator[tuple[str, list[Row]]]:
        """Give the groups that have rows, each with its own."""
        for group in GROUPS:
            rows = [row for row in self.rows if row.group == group]
            if rows:
                yield group, rows


def compare(runs: Sequence[Path], *, beside: Sequence[str] = BESIDE) -> Comparison:
    """Read runs and put them beside published models; without runs, the paper's rows alone.

    A run is a directory with a results.json a task, at any depth. Rows are those that a run has a
    figure of. Raises InputError.
    """
    models = published_models()
    for name in beside:
        if name not in models:
            raise InputError(f"{name!r} is not published; expected some of {', '.join(models)}")
    results = {path: read_results(path) for path in runs}
    columns = _run_columns(results)
    paper = tuple(Column(name=n, title=models[n], is_published=True) for n in beside)
    of_runs = dict(zip((c.name for c in columns), results.values(), strict=True))
    rows = [*_paper_rows(of_runs, beside), *_other_rows(of_runs)]
    return Comparison(
        columns=(*columns, *paper),
        rows=tuple(row for row in rows if not runs or any(c.name in row.cells for c in columns)),
        settings={name: {r.task: r.settings for r in found} for name, found in of_runs.items()},
    )


def read_results(directory: Path) -> tuple[TaskResult, ...]:
    """Read a run's results, by task. Raises InputError."""
    paths = sorted(directory.rglob(f"*{RESULTS}"))
    if not paths:
        raise InputError(f"{directory}: no {RESULTS} there; expected a directory of an evaluation")
    by_task: dict[str, Path] = {}
    results = []
    for path in paths:
        result = _read_result(path)
        if result.task in by_task:
            other = by_task[result.task]
            raise InputError(f"{path}: task {result.task} is in {other} too; keep one of them")
        by_task[result.task] = path
        results.append(result)
    return tuple(results)


def _read_result(path: Path) -> TaskResult:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    missing = [n for n in _FIELDS if not isinstance(read, dict) or n not in read]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; expected the file of one task")
    metrics, headline, interval = read["metrics"], read["headline"], read["interval"]
    if not isinstance(metrics, dict) or not all(map(_is_figure, metrics.values())):
        raise InputError(f"{path}: metrics is {metrics!r}; expected names with finite numbers")
    if headline not in metrics:
        raise InputError(f"{path}: headline {headline!r} is none of {', '.join(metrics)}")
    match interval:
        case None:
            pass
        case [low, high] if _is_figure(low) and _is_figure(high) and low <= high:
            interval = (float(low), float(high))
        case _:
            raise InputError(f"{path}: interval is {interval!r}; expected [low, high] or null")
    return TaskResult(
        task=str(read["task"]),
        metrics=metrics,
        headline=headline,
        interval=interval,
        model=str(read["model"]),
        settings=read["settings"],
    )


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@cache
def _published() -> dict[str, dict[str, Any]]:  # what YAML reads has no type
    text = (Path(__file__).parent / "published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def published_models() -> dict[str, str]:
    """Return the titles of the paper's models, by name."""
    return {name: str(title) for name, title in _published()["models"].items()}


@cache
def published_rows() -> Mapping[str, Published]:
    """Return the paper's rows, by name."""
    rows: dict[str, Any] = {}
    for name, row in _published()["rows"].items():
        rows[name] = {"task": name, "metric": None, "most": 100, "digits": 1, "note": "", **row}
    return {name: Published(**row) for name, row in rows.items()}


def _run_columns(results: Mapping[Path, Sequence[TaskResult]]) -> tuple[Column, ...]:
    """Name runs by their models, and by their directories where models are the same."""
    models = {}
    for path, found in results.items():
        names = sorted({result.model for result in found})
        if len(names) > 1:
            raise InputError(f"{path}: holds results of {', '.join(names)}; expected one model")
        models[path] = names[0]
    titles = list(models.values())
    return tuple(
        Column(
            name=f"run {number}",
            title=model if titles.count(model) == 1 else f"{model} ({path.resolve().name})",
            is_published=False,
        )
        for number, (path, model) in enumerate(models.items())
    )


def _paper_rows(runs: Mapping[str, Sequence[TaskResult]], beside: Sequence[str]) -> Iterator[Row]:
    for row in published_rows().values():
        cells = {name: Cell(value=row.scores[name]) for name in beside if name in row.scores}
        for column, results in runs.items():
            for result in results:
                metric = row.metric or result.headline
                if result.task == row.task and metric in result.metrics:
                    cells[column] = _cell(result, metric)
        yield Row(
            title=row.title,
            group=row.group,
            most=row.most,
            digits=row.digits,
            note=row.note,
            cells=cells,
        )


def _other_rows(runs: Mapping[str, Sequence[TaskResult]]) -> Iterator[Row]:
    """Give the headlines of tasks that the paper does not have."""
    known = {row.task for row in published_rows().values()}
    tasks = dict.fromkeys(r.task for results in runs.values() for r in results)
    for task in tasks:
        if task in known:
            continue
        cells = {
            column: _cell(result, result.headline)
            for column, results in runs.items()
            for result in results
            if result.task == task
        }
        most = max(100.0, *(cell.value for cell in cells.values()))
        yield Row(title=task, group="other", most=most, digits=1, note="", cells=cells)


def _cell(result: TaskResult, metric: str) -> Cell:
    interval = result.interval if metric == result.headline else None
    return Cell(value=result.metrics[metric], interval=interval)
