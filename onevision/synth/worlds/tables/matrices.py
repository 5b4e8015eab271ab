"""Tables of one quantity, with names down and months or years across."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.synth.kit import lexicon
from onevision.synth.kit.words import yes_or_no
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.tables.grid import TextTable

QUANTITIES = (
    "Sales", "Orders", "Points", "Calls", "Profit", "Tickets", "Costs", "Requests", "Votes",
    "Visits", "Reports", "Complaints",
)  # fmt: skip
ROWS = (
    ("City", lexicon.CITIES), ("Name", lexicon.FIRST_NAMES), ("Country", lexicon.COUNTRIES),
    ("Team", lexicon.ANIMALS), ("Item", lexicon.GOODS), ("Department", lexicon.DEPARTMENTS),
)  # fmt: skip
YEARS = tuple(str(year) for year in range(2005, 2031))
COLUMNS = (lexicon.MONTHS, YEARS, ("Q1", "Q2", "Q3", "Q4"), lexicon.WEEKDAYS)
MAX_TO_ADD = 4


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The quantity, the names of rows and columns, and a number for every pair."""

    quantity: str
    key: str
    names: tuple[str, ...]
    periods: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    table: TextTable


def random_matrix(rng: random.Random) -> Matrix:
    """Generates a table of numbers."""
    quantity, (key, pool) = rng.choice(QUANTITIES), rng.choice(ROWS)
    names = tuple(rng.sample(pool, rng.randint(3, 6)))
    across = rng.choice(COLUMNS)
    count = rng.randint(2, 4)
    first = rng.randrange(len(across) - count + 1)
    periods = across[first : first + count]
    high = rng.choice((20, 60, 100, 100, 500))
    values = tuple(tuple(rng.randint(1, high) for _ in periods) for _ in names)
    rows = zip(names, values, strict=True)
    table = TextTable(
        title=rng.choice((quantity, f"{quantity} by {key.lower()}", f"{quantity} Report")),
        headers=(key, *periods),
        rows=tuple((name, *(str(value) for value in row)) for name, row in rows),
    )
    return Matrix(
        quantity=quantity, key=key, names=names, periods=periods, values=values, table=table
    )


def describe(matrix: Matrix) -> str:
    """Reads the table out, row by row."""
    return " ".join(
        f"{name}: {', '.join(f'{p} {v}' for p, v in zip(matrix.periods, row, strict=True))}."
        for name, row in zip(matrix.names, matrix.values, strict=True)
    )


def questions(matrix: Matrix, rng: random.Random) -> Iterator[Question]:
    """Asks about cells, rows, columns and the whole."""
    for _ in range(2):
        n, p = rng.randrange(len(matrix.names)), rng.randrange(len(matrix.periods))
        name, period = matrix.names[n], matrix.periods[p]
        words = (
            f"What is the value of {name} for {period}?",
            f"Which number stands in the row {name} under {period}?",
        )
        yield ask(rng, "matrix_cell", words, str(matrix.values[n][p]))
    yield from _ask_columns(matrix, rng)
    yield from _ask_rows(matrix, rng)
    every = [value for row in matrix.values for value in row]
    word, value = rng.choice((("largest", max(every)), ("smallest", min(every))))
    words = (f"What is the {word} number in the table?", f"Which number in it is the {word}?")
    yield ask(rng, "matrix_extreme", words, str(value))


def _ask_columns(matrix: Matrix, rng: random.Random) -> Iterator[Question]:
    key = matrix.key.lower()
    p = rng.randrange(len(matrix.periods))
    column, period = [row[p] for row in matrix.values], matrix.periods[p]
    word, value = rng.choice((("highest", max(column)), ("lowest", min(column))))
    if column.count(value) == 1:
        words = (
            f"Which {key} has the {word} value for {period}?",
            f"Which {key} is the {word} in the column {period}?",
        )
        yield ask(rng, "matrix_leader", words, matrix.names[column.index(value)])
    if len(column) <= MAX_TO_ADD:
        words = (f"What do the numbers under {period} add up to?", f"Add up the column {period}.")
        yield ask(rng, "matrix_column_sum", words, str(sum(column)))
    n, m = rng.sample(range(len(column)), 2)
    if column[n] != column[m]:
        a, b = matrix.names[n], matrix.names[m]
        words = (f"Does {a} have more than {b} under {period}?",)
        yield ask(rng, "matrix_compare", words, yes_or_no(column[n] > column[m]))


def _ask_rows(matrix: Matrix, rng: random.Random) -> Iterator[Question]:
    n = rng.randrange(len(matrix.names))
    row, name = matrix.values[n], matrix.names[n]
    words = (f"What do the numbers of {name} add up to?", f"Add up the row {name}.")
    yield ask(rng, "matrix_row_sum", words, str(sum(row)))
    word, value = rng.choice((("highest", max(row)), ("lowest", min(row))))
    if row.count(value) == 1:
        words = (f"Under which heading does {name} have its {word} value?",)
        yield ask(rng, "matrix_best_period", words, matrix.periods[row.index(value)])
    p, q = rng.sample(range(len(row)), 2)
    if row[p] < row[q]:
        p, q = q, p
    if row[p] > row[q]:
        a, b = matrix.periods[p], matrix.periods[q]
        words = (
            f"How much higher is the value of {name} for {a} than for {b}?",
            f"What is the difference between the values for {a} and {b} in the row {name}?",
        )
        yield ask(rng, "matrix_difference", words, str(row[p] - row[q]))
