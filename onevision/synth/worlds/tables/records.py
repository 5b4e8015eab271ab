"""Tables of records: one row per person, item or city, one column per attribute."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.synth.kit.words import ORDINALS, join, number_of, yes_or_no
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.tables.grid import TextTable
from onevision.synth.worlds.tables.subjects import (
    SUBJECTS,
    NumberColumn,
    Subject,
    SubjectColumn,
    WordColumn,
    random_column,
)

# Sums are asked of at most this many rows.
MAX_ROWS_TO_ADD = 5


@dataclass(frozen=True, kw_only=True)
class Records:
    """A table, its subject, and the values of its columns of numbers."""

    subject: Subject
    columns: tuple[SubjectColumn, ...]
    values: tuple[tuple[int, ...], ...]
    table: TextTable

    @property
    def keys(self) -> tuple[str, ...]:
        """What names the rows: the first column."""
        return self.table.column(0)


def random_records(rng: random.Random) -> Records:
    """Generates a table of records."""
    subject = rng.choice(SUBJECTS)
    num_rows = rng.randint(3, 8)
    columns = tuple(rng.sample(subject.columns, rng.randint(2, 4)))
    keys = rng.sample(subject.keys, num_rows)
    filled = [random_column(rng, column, num_rows) for column in columns]
    rows = zip(keys, *(cells for cells, _ in filled), strict=True)
    return Records(
        subject=subject,
        columns=columns,
        values=tuple(tuple(values) for _, values in filled),
        table=TextTable(
            title=rng.choice(subject.titles) if rng.random() < 0.75 else "",
            headers=(subject.key, *(column.header for column in columns)),
            rows=tuple(rows),
        ),
    )


def caption(table: TextTable) -> str:
    """Describes the size and the columns of a table."""
    titled = f" titled {table.title}" if table.title else ""
    size = f"{number_of(len(table.rows), 'row')} below the header"
    return f"A table{titled} with {size}. Its columns are {join(table.headers)}."


def describe(records: Records) -> str:
    """Reads the table out, row by row."""
    headers = [header.lower() for header in records.table.headers[1:]]
    return " ".join(
        f"{key}: {', '.join(f'{h} {c}' for h, c in zip(headers, cells, strict=True))}."
        for key, *cells in records.table.rows
    )


def questions(records: Records, rng: random.Random) -> Iterator[Question]:
    """Asks about cells, columns and rows."""
    yield from layout_questions(records.table, rng, nouns=records.subject.nouns)
    n = rng.randrange(len(records.keys))
    words = (
        f"Which {records.subject.noun} is listed {ORDINALS[n]}?",
        f"Which {records.subject.noun} stands in the {ORDINALS[n]} row below the header?",
    )
    yield ask(rng, "table_nth", words, records.keys[n])
    for number, column in enumerate(records.columns):
        yield from _ask_cells(records, number, rng)
        if isinstance(column, WordColumn):
            yield _ask_count_word(records, number, rng)
        else:
            yield from _ask_numbers(records, number, column, rng)


def layout_questions(table: TextTable, rng: random.Random, *, nouns: str) -> Iterator[Question]:
    """Asks about the table as a whole."""
    words = (f"How many {nouns} does the table list?", "How many rows are there below the header?")
    yield ask(rng, "table_rows", words, str(len(table.rows)))
    words = ("How many columns does the table have?", "Count the columns.")
    yield ask(rng, "table_columns", words, str(len(table.headers)))
    n = rng.randrange(len(table.headers))
    words = (
        f"What is the header of the {ORDINALS[n]} column?",
        f"What is written at the top of the {ORDINALS[n]} column?",
    )
    if table.headers[n]:
        yield ask(rng, "table_header", words, table.headers[n])
    if table.title:
        words = ("What is the title of the table?", "What is written above the table?")
        yield ask(rng, "table_title", words, table.title)


def _ask_cells(records: Records, number: int, rng: random.Random) -> Iterator[Question]:
    """Asks for a cell by its row, and for a row by its cell."""
    column, header = records.columns[number], records.columns[number].header
    phrase = header.lower() if isinstance(column, WordColumn) else column.phrase
    cells = records.table.column(number + 1)
    n = rng.randrange(len(cells))
    words = (
        f"What is the {phrase} of {records.keys[n]}?",
        f"What is written under {header} for {records.keys[n]}?",
        f"What stands in the {header} column for {records.keys[n]}?",
    )
    yield ask(rng, "table_lookup", words, cells[n])
    alone = [k for k, cell in enumerate(cells) if cells.count(cell) == 1]
    if alone:
        k = rng.choice(alone)
        noun = records.subject.noun
        words = (
            f"Which {noun} has {cells[k]} in the {header} column?",
            f"For which {noun} is the {phrase} {cells[k]}?",
        )
        yield ask(rng, "table_reverse", words, records.keys[k])


def _ask_count_word(records: Records, number: int, rng: random.Random) -> Question:
    header = records.columns[number].header
    cells = records.table.column(number + 1)
    cell = rng.choice(cells)
    words = (
        f"How many {records.subject.nouns} have {cell} in the {header} column?",
        f"How many times does {cell} stand in the {header} column?",
    )
    return ask(rng, "table_count_word", words, str(cells.count(cell)))


def _ask_numbers(
    records: Records, number: int, column: NumberColumn, rng: random.Random
) -> Iterator[Question]:
    phrase, noun = column.phrase, records.subject.noun
    values, keys = records.values[number], records.keys
    word, value = rng.choice((("highest", max(values)), ("lowest", min(values))))
    words = (f"What is the {word} {phrase}?", f"What is the {word} {phrase} in the table?")
    yield ask(rng, "table_extreme_value", words, column.write(value))
    if values.count(value) == 1:
        words = (f"Which {noun} has the {word} {phrase}?",)
        yield ask(rng, "table_extreme", words, keys[values.index(value)])
    n, m = rng.sample(range(len(keys)), 2)
    if values[n] < values[m]:
        n, m = m, n
    if values[n] > values[m]:
        words = (
            f"What is the difference between the {phrase} of {keys[n]} and of {keys[m]}?",
            f"By how much is the {phrase} of {keys[n]} above that of {keys[m]}?",
        )
        yield ask(rng, "table_difference", words, column.write(values[n] - values[m]))
    n, m = rng.sample(range(len(keys)), 2)
    if values[n] != values[m]:
        words = (f"Is the {phrase} of {keys[n]} higher than that of {keys[m]}?",)
        yield ask(rng, "table_compare", words, yes_or_no(values[n] > values[m]))
    yield from _ask_totals(records, number, column, rng)


def _ask_totals(
    records: Records, number: int, column: NumberColumn, rng: random.Random
) -> Iterator[Question]:
    values = records.values[number]
    if len(values) <= MAX_ROWS_TO_ADD and not column.price:
        words = (
            f"What is the sum of the {column.header} column?",
            f"Add up the {column.header} column.",
        )
        yield ask(rng, "table_sum", words, column.write(sum(values)))
    limit = rng.choice(sorted(values)[:-1])
    above = sum(value > limit for value in values)
    words = (
        f"For how many {records.subject.nouns} is the {column.phrase} above {column.write(limit)}?",
        f"How many numbers in the {column.header} column are above {column.write(limit)}?",
    )
    yield ask(rng, "table_count_above", words, str(above))
