"""Tables of records, timetables and grids of numbers.

Name | Age | City      "A table titled Members with the columns Name, Age and City ..."
-----+-----+------     What is the age of Ada?            34
Ada  |  34 | Rome      Which person has the city Oslo?    Tom
Tom  |  27 | Oslo      What is the sum of the age column? 61
"""

import random

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.words import plural
from onevision.synth.sample import Question, Sample, Split, rng_for
from onevision.synth.worlds.tables import matrices, records, timetables
from onevision.synth.worlds.tables.grid import TextTable, draw, random_look


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th table of a split."""
    rng = rng_for(split, "tables", index)
    kind = rng.choice((_records, _records, _records, _timetable, _matrix, _matrix))
    return kind(rng)


def _records(rng: random.Random) -> Sample:
    content = records.random_records(rng)
    asked = list(records.questions(content, rng))
    return _sample(rng, content.table, records.describe(content), asked)


def _timetable(rng: random.Random) -> Sample:
    table = timetables.random_timetable(rng)
    asked = list(timetables.questions(table, rng))
    return _sample(rng, table, timetables.describe(table), asked)


def _matrix(rng: random.Random) -> Sample:
    content = matrices.random_matrix(rng)
    asked = list(matrices.questions(content, rng))
    nouns = plural(content.key.lower())
    asked += records.layout_questions(content.table, rng, nouns=nouns)
    return _sample(rng, content.table, matrices.describe(content), asked)


def _sample(
    rng: random.Random, table: TextTable, description: str, asked: list[Question]
) -> Sample:
    look = random_look(rng, num_rows=len(table.rows), num_columns=len(table.headers))
    caption = records.caption(table)
    return picture_sample(
        rng,
        draw(table, look),
        caption=caption,
        detail=f"{caption} {description}",
        asked=asked,
    )
