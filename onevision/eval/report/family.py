"""The results of runs + the family's tables -> tables with a row per recipe, runs first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from onevision.errors import ConfigError
from onevision.eval.results import TaskResult
from onevision.values import from_plain, read_yaml


@dataclass(frozen=True, kw_only=True)
class FamilyRow:
    """A model or recipe: a value per column, with its standard deviation if known."""

    title: str
    values: tuple[float, ...]
    std: tuple[float, ...] = ()
    is_run: bool = False

    def cells(self) -> list[str]:
        """Returns the values as text: "67.3 ± 2.0"."""
        if not self.std:
            return [f"{value:.1f}" for value in self.values]
        pairs = zip(self.values, self.std, strict=True)
        return [f"{value:.1f} ± {std:.1f}" for value, std in pairs]


@dataclass(frozen=True, kw_only=True)
class FamilyTable:
    """A table of earlier models."""

    title: str
    source: str
    task: str
    # Metric of the task -> heading.
    columns: Mapping[str, str]
    rows: tuple[FamilyRow, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.values) != len(self.columns) or len(row.std) not in (0, len(row.values)):
                raise ConfigError(f"{self.title}: row {row.title!r} has not a value per column")


@cache
def published_tables() -> tuple[FamilyTable, ...]:
    """Returns the family's tables. Raises ConfigError."""
    path = Path(__file__).parent / "family.yaml"
    given = read_yaml(path)
    assert isinstance(given, dict)
    return tuple(
        from_plain(FamilyTable, table, where=f"{path}: {name}", complete=False)
        for name, table in given.items()
    )


def family_tables(runs: Mapping[str, Sequence[TaskResult]]) -> list[FamilyTable]:
    """Returns the tables that a run has figures for, with its row; all of them without runs."""
    found = []
    for table in published_tables():
        rows = [
            row
            for title, results in runs.items()
            for result in results
            if result.task == table.task and (row := _build_row(table, title, result))
        ]
        if rows or not runs:
            found.append(
                FamilyTable(
                    title=table.title, source=table.source, task=table.task,
                    columns=table.columns, rows=(*rows, *table.rows),
                )
            )  # fmt: skip
    return found


def _build_row(table: FamilyTable, title: str, result: TaskResult) -> FamilyRow | None:
    """Returns a run's row; None if it lacks one of the figures."""
    if not all(metric in result.metrics for metric in table.columns):
        return None
    values = tuple(result.metrics[metric] for metric in table.columns)
    headline = result.headline
    only = headline is not None and tuple(table.columns) == (headline.metric,)
    std = result.std if result.std is not None else result.judge.std if result.judge else None
    return FamilyRow(
        title=title, values=values, std=(std,) if only and std is not None else (), is_run=True
    )
