"""The results of runs + the paper's tables -> one table: a row per figure, a column per model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from onevision.errors import InputError
from onevision.eval.answers import RESULTS
from onevision.eval.results import REPEAT, TaskResult, merge_repeats, read_result
from onevision.eval.task import find_tasks
from onevision.values import from_plain, name_closest, to_plain

GROUPS = ("single-image", "multi-image", "video", "other")
# The published models that stand beside runs by default.
BESIDE = ("0.5b", "7b", "72b", "gpt-4v", "gpt-4o")


@dataclass(frozen=True, kw_only=True)
class FigureSource:
    """A metric of a task, as its results.json holds it."""

    task: str
    # None is the task's headline.
    metric: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of the paper's tables, and where a run's figure for it comes from."""

    title: str
    group: str
    # The number of the paper's table.
    table: int
    # The run's figure is their mean; empty if there can be none, for the reason in `absent`.
    sources: tuple[FigureSource, ...]
    absent: str | None = None
    # The end of its axis in plots.
    most: float = 100.0
    digits: int = 1
    note: str | None = None
    scores: Mapping[str, float]  # by model


@dataclass(frozen=True, kw_only=True)
class Column:
    """A model: of a run, or published."""

    name: str
    title: str
    is_published: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure, with the confidence interval of a run's headline.

    Over repeated runs the interval is the standard deviation to both sides, which `std` holds too.
    """

    value: float
    interval: tuple[float, float] | None = None
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One figure of all models that have it."""

    title: str
    group: str
    most: float
    digits: int
    note: str | None
    cells: Mapping[str, Cell]  # by column

    def format(self, column: Column) -> str:
        """Returns a cell's value, with its interval in brackets; a dash if it is empty."""
        cell = self.cells.get(column.name)
        if cell is None:
            return "-"
        value = f"{cell.value:.{self.digits}f}"
        if cell.std is not None:
            return f"{value} ± {cell.std:.{self.digits}f}"
        if cell.interval is None:
            return value
        low, high = cell.interval
        return f"{value} [{low:.{self.digits}f}, {high:.{self.digits}f}]"


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """Runs beside published models."""

    columns: tuple[Column, ...]  # runs first
    rows: tuple[TableRow, ...]  # by group
    results: Mapping[str, tuple[TaskResult, ...]]  # of each run's column

    @property
    def runs(self) -> tuple[Column, ...]:
        """The columns of runs."""
        return tuple(column for column in self.columns if not column.is_published)

    def groups(self) -> Iterator[tuple[str, list[TableRow]]]:
        """Yields the groups that have rows, each with its rows."""
        for group in GROUPS:
            rows = [row for row in self.rows if row.group == group]
            if rows:
                yield group, rows

    def notes(self) -> list[str]:
        """Returns the remarks on rows, and the tasks of each run that have no score yet."""
        notes = [f"{row.title}: {row.note}." for row in self.rows if row.note]
        for column in self.runs:
            results = self.results[column.name]
            if waiting := [r.task for r in results if r.headline is None]:
                notes.append(f"{column.title}: not scored yet: {', '.join(waiting)}.")
            if failed := [f"{r.task} {r.num_failed}" for r in results if r.num_failed]:
                notes.append(f"{column.title}: rows that could not be asked: {', '.join(failed)}.")
            if repeated := sorted({r.num_runs for r in results} - {1}):
                runs = " or ".join(map(str, repeated))
                notes.append(f"{column.title}: ± is the standard deviation of {runs} runs.")
            if kept := " or ".join(map(str, sorted({r.keep for r in results} - {1}))):
                notes.append(f"{column.title}: {kept} of the visual tokens were read.")
        return notes


def build_table(runs: Sequence[Path], *, beside: Sequence[str] = BESIDE) -> PublishedTable:
    """Sets runs beside published models; without runs, shows the paper's rows alone.

    A run is a directory with a results.json per task, at any depth. Rows are those that a run has a
    figure for. Raises InputError for an unknown model or no results, DataError for a damaged file.
    """
    models = published_models()
    for name in beside:
        if name not in models:
            raise InputError(f"{name!r} is not published{name_closest(name, models)}")
    results = {path: read_results(path) for path in runs}
    columns = _name_runs(results)
    by_column = dict(zip((column.name for column in columns), results.values(), strict=True))
    rows = [*_paper_rows(by_column, beside), *_other_rows(by_column)]
    return PublishedTable(
        columns=(*columns, *(Column(name=n, title=models[n], is_published=True) for n in beside)),
        rows=tuple(row for row in rows if not runs or any(c.name in row.cells for c in columns)),
        results=by_column,
    )


def read_results(directory: Path) -> tuple[TaskResult, ...]:
    """Reads a run's results, one per task. Raises InputError, DataError."""
    paths = sorted(directory.rglob(RESULTS))
    if not paths:
        raise InputError(f"{directory}: no {RESULTS} in it; give the --output of a run")
    by_task: dict[str, dict[Path, TaskResult]] = {}
    for path in paths:
        result = read_result(path)
        others = by_task.setdefault(result.task, {})
        for other in others:
            if not (_is_repeat(path) and _is_repeat(other)):
                raise InputError(f"{path}: task {result.task} is in {other} too; keep one of them")
        others[path] = result
    return tuple(merge_repeats([*found.values()]) for found in by_task.values())


def _is_repeat(path: Path) -> bool:
    """Whether a results.json is that of one of several runs of the same questions."""
    return fnmatch(path.parents[1].name, REPEAT.format("*"))


@cache
def _read_published() -> dict[str, Any]:  # Any: YAML values
    text = (Path(__file__).parent / "published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def published_source() -> str:
    """Returns where the published figures come from."""
    return f"Published figures: {_read_published()['source']}."


def published_models() -> dict[str, str]:
    """Returns the titles of the paper's models, by name."""
    return {name: str(title) for name, title in _read_published()["models"].items()}


@cache
def published_rows() -> Mapping[str, PublishedRow]:
    """Returns the paper's rows, by name. Raises ConfigError if a row names no known task."""
    rows = {}
    for name, given in _read_published()["rows"].items():
        texts = given.get("sources", [] if "absent" in given else [name])
        sources = [to_plain(source) for text in texts for source in parse_source(text)]
        where = f"published.yaml: {name}"
        rows[name] = from_plain(
            PublishedRow, given | {"sources": sources}, where=where, complete=False
        )
    return rows


def parse_source(text: str) -> Iterator[FigureSource]:
    """Yields the source that "task" or "task/metric" names, or a source per task of a group."""
    name, _, metric = text.partition("/")
    for task in find_tasks([name]):
        yield FigureSource(task=task.name, metric=metric or None)


def _name_runs(results: Mapping[Path, Sequence[TaskResult]]) -> tuple[Column, ...]:
    """Names runs by their models, and by their directories too if models are the same."""
    models = {}
    for path, found in results.items():
        names = sorted({result.model.name for result in found})
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


def _paper_rows(
    runs: Mapping[str, Sequence[TaskResult]], beside: Sequence[str]
) -> Iterator[TableRow]:
    for row in published_rows().values():
        cells = {name: Cell(value=row.scores[name]) for name in beside if name in row.scores}
        for column, results in runs.items():
            found = [find_cell(source, results) for source in row.sources]
            known = [cell for cell in found if cell is not None]
            if len(known) == 1 == len(found):
                cells[column] = known[0]
            elif known and len(known) == len(found):
                cells[column] = Cell(value=fmean(cell.value for cell in known))
        yield TableRow(
            title=row.title,
            group=row.group,
            most=row.most,
            digits=row.digits,
            note="; ".join(filter(None, (row.note, _explain_absence(row)))) or None,
            cells=cells,
        )


def _explain_absence(row: PublishedRow) -> str | None:
    return f"no run can have it, since {row.absent}" if row.absent else None


def _other_rows(runs: Mapping[str, Sequence[TaskResult]]) -> Iterator[TableRow]:
    """Yields the headlines of tasks that no row of the paper shows."""
    scored = [result for results in runs.values() for result in results if result.headline]
    done = {result.task for result in scored}
    sources = [row.sources for row in published_rows().values()]
    shown = {s.task for group in sources if {s.task for s in group} <= done for s in group}
    for result in {result.task: result for result in scored}.values():
        if result.task in shown:
            continue
        found = {
            column: find_cell(FigureSource(task=result.task), results)
            for column, results in runs.items()
        }
        cells = {column: cell for column, cell in found.items() if cell is not None}
        end, digits = (5.0, 2) if result.unit == "points" else (100.0, 1)
        yield TableRow(
            title=result.title
            if result.title == result.task
            else f"{result.title} ({result.task})",
            group="other",
            most=max(end, *(cell.value for cell in cells.values())),
            digits=digits,
            note=None,
            cells=cells,
        )


def find_cell(source: FigureSource, results: Sequence[TaskResult]) -> Cell | None:
    """Returns a run's figure on the paper's scale: fractions as per cent."""
    for result in results:
        if result.task != source.task or result.headline is None:
            continue
        headline, scale = result.headline, 100 if result.unit == "fraction" else 1
        metric = source.metric or headline.metric
        if metric not in result.metrics:
            return None
        interval = None
        std = None
        if metric == headline.metric:
            interval = (scale * headline.low, scale * headline.high)
            std = None if result.std is None else scale * result.std
        return Cell(value=scale * result.metrics[metric], interval=interval, std=std)
    return None
