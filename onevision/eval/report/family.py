"""The results of runs + the family's tables -> tables with a row per recipe, runs first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onevision.errors import ConfigError
from onevision.eval.report.table import Cell, FigureSource, find_cell, parse_source
from onevision.eval.results import TaskResult
from onevision.values import from_plain, read_yaml


@dataclass(frozen=True, kw_only=True)
class FamilyRow:
    """A model or recipe: a value per column, with its standard deviation if known."""

    title: str
    values: tuple[float | None, ...]
    std: tuple[float | None, ...] = ()
    is_run: bool = False


@dataclass(frozen=True, kw_only=True)
class FamilyTable:
    """A table of earlier models."""

    title: str
    source: str
    # "task/metric", or a task for its headline -> heading.
    columns: Mapping[str, str]
    digits: int = 1
    rows: tuple[FamilyRow, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.values) != len(self.columns) or len(row.std) not in (0, len(row.values)):
                raise ConfigError(f"{self.title}: row {row.title!r} has not a value per column")

    def cells(self, row: FamilyRow) -> list[str]:
        """Returns the values of a row as text: "67.3 ± 2.0", or "-"."""
        spreads = row.std or (None,) * len(row.values)
        return [self._cell(*pair) for pair in zip(row.values, spreads, strict=True)]

    def _cell(self, value: float | None, std: float | None) -> str:
        if value is None:
            return "-"
        text = f"{value:.{self.digits}f}"
        return text if std is None else f"{text} ± {std:.{self.digits}f}"


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


def figure_source(column: str) -> FigureSource:
    """Returns the metric that a column's key names. Raises InputError for an unknown task."""
    (source,) = parse_source(column)
    return source


def family_tables(runs: Mapping[str, Sequence[TaskResult]]) -> list[FamilyTable]:
    """Returns the tables that a run has figures for, with its row; all of them without runs."""
    found = []
    for table in published_tables():
        built = [_build_row(table, title, results) for title, results in runs.items()]
        rows = [row for row in built if row is not None]
        if rows or not runs:
            found.append(
                FamilyTable(
                    title=table.title, source=table.source, columns=table.columns,
                    digits=table.digits, rows=(*rows, *table.rows),
                )
            )  # fmt: skip
    return found


def _build_row(table: FamilyTable, title: str, results: Sequence[TaskResult]) -> FamilyRow | None:
    """Returns a run's row; None if it has none of the figures."""
    sources = [figure_source(column) for column in table.columns]
    cells = [find_cell(source, results) for source in sources]
    if not any(cells):
        return None
    return FamilyRow(
        title=title,
        values=tuple(cell.value if cell else None for cell in cells),
        std=tuple(
            _spread(source, cell, results) if cell else None
            for source, cell in zip(sources, cells, strict=True)
        ),
        is_run=True,
    )


def _spread(source: FigureSource, cell: Cell, results: Sequence[TaskResult]) -> float | None:
    """Returns the standard deviation over repeated runs, or else over judgings of a headline."""
    if cell.std is not None or cell.interval is None:
        return cell.std
    return next(
        result.judge.std if result.judge else None
        for result in results
        if result.task == source.task
    )
