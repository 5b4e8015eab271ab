"""Timetables: weekdays across, hours down, and what happens in each hour.

      | Mon   | Tue          "What is on Tue at 9:00?"  Art
8:00  | Maths | Music        "How many times a week is Art?"  1
9:00  | free  | Art
"""

import random
from collections.abc import Iterator

from onevision.synth.kit import lexicon
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.tables.grid import TextTable

ACTIVITIES = (lexicon.SUBJECTS, lexicon.SPORTS, lexicon.HOBBIES)
TITLES = ("Timetable", "Weekly Plan", "Schedule", "Course Plan", "Class 5B", "My Week", "")
FREE = "free"


def random_timetable(rng: random.Random) -> TextTable:
    """Generates a timetable; some hours are free."""
    days = _random_days(rng)
    first, count = rng.randint(7, 13), rng.randint(3, 6)
    names = rng.sample(rng.choice(ACTIVITIES), rng.randint(4, 8))
    with_free = rng.random() < 0.5
    rows = []
    for hour in range(first, first + count):
        cells = [FREE if with_free and rng.random() < 0.15 else rng.choice(names) for _ in days]
        rows.append((f"{hour}:00", *cells))
    return TextTable(title=rng.choice(TITLES), headers=("Time", *days), rows=tuple(rows))


def _random_days(rng: random.Random) -> tuple[str, ...]:
    count = rng.randint(2, 6)
    first = rng.randrange(len(lexicon.WEEKDAYS) - count + 1) if rng.random() < 0.5 else 0
    return lexicon.WEEKDAYS[first : first + count]


def describe(table: TextTable) -> str:
    """Reads the timetable out, day by day."""
    times = table.column(0)
    return " ".join(
        f"On {day}: "
        + ", ".join(f"{time} {cell}" for time, cell in zip(times, table.column(n), strict=True))
        + "."
        for n, day in enumerate(table.headers)
        if n > 0
    )


def questions(table: TextTable, rng: random.Random) -> Iterator[Question]:
    """Asks what happens when, when something happens, and how often."""
    for _ in range(2):
        n, row = rng.randrange(1, len(table.headers)), rng.choice(table.rows)
        day, time = table.headers[n], row[0]
        words = (f"What is on {day} at {time}?", f"What does the plan say for {day} at {time}?")
        yield ask(rng, "timetable_cell", words, row[n])
    cells = [cell for row in table.rows for cell in row[1:]]
    name = rng.choice(cells)
    words = (f"How many times is {name} in the plan?", f"How often does {name} appear?")
    if name == FREE:
        words = ("How many hours are free in the plan?", "How often does free appear?")
    yield ask(rng, "timetable_count", words, str(cells.count(name)))
    n = rng.randrange(1, len(table.headers))
    for word, row in (("first", table.rows[0]), ("last", table.rows[-1])):
        words = (f"What comes {word} on {table.headers[n]}?",)
        yield ask(rng, "timetable_end", words, row[n])
    yield from _ask_when(table, rng)
    words = ("How many days does the plan cover?", "For how many days is the plan?")
    yield ask(rng, "timetable_days", words, str(len(table.headers) - 1))
    words = ("At what time does the first row begin?", "What is the earliest time in the plan?")
    yield ask(rng, "timetable_start", words, table.rows[0][0])


def _ask_when(table: TextTable, rng: random.Random) -> Iterator[Question]:
    """Asks for the time or the day of something that happens once then."""
    n = rng.randrange(1, len(table.headers))
    cells = table.column(n)
    alone = [k for k, cell in enumerate(cells) if cells.count(cell) == 1 and cell != FREE]
    if alone:
        k = rng.choice(alone)
        words = (f"At what time is {cells[k]} on {table.headers[n]}?",)
        yield ask(rng, "timetable_time", words, table.rows[k][0])
        if k + 1 < len(cells):
            words = (f"What follows {cells[k]} on {table.headers[n]}?",)
            yield ask(rng, "timetable_next", words, cells[k + 1])
    row = rng.choice(table.rows)
    once = [k for k in range(1, len(row)) if row.count(row[k]) == 1 and row[k] != FREE]
    if once:
        k = rng.choice(once)
        words = (f"On which day is {row[k]} at {row[0]}?",)
        yield ask(rng, "timetable_day", words, table.headers[k])
