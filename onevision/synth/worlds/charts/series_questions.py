"""Questions about several series of values over the same categories."""

import random
from collections.abc import Iterator

from onevision.synth.kit.words import yes_or_no
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.charts.topics import Data
from onevision.synth.worlds.charts.value_questions import title_question


def questions(data: Data, rng: random.Random, *, mark: str) -> Iterator[Question]:
    """Asks about a chart with a legend; `mark` is what stands for a value: "bar", "point"."""
    yield from _ask_values(data, rng)
    yield _ask_colour(data, rng)
    yield _ask_owner(data, rng)
    yield from _ask_extreme_category(data, rng)
    yield _ask_extreme_series(data, rng)
    yield _ask_difference(data, rng)
    yield _ask_sum(data, rng)
    yield from _ask_leads(data, rng)
    words = ("How many series does the legend list?", "How many entries does the legend have?")
    yield ask(rng, "series_count", words, str(len(data.series)))
    many = f"How many {mark}s does the chart have in all?"
    yield ask(rng, "series_count", (many,), str(len(data.series) * len(data.categories)))
    yield title_question(data, rng)


def _ask_values(data: Data, rng: random.Random) -> Iterator[Question]:
    for series in rng.sample(data.series, 2):
        n = rng.randrange(len(data.categories))
        name = data.categories[n]
        words = (
            f"What is the value of {series.name} for {name}?",
            f"Which value does {series.name} have for {name}?",
            f"What is the {series.colour} value for {name}?",
        )
        yield ask(rng, "series_value", words, str(series.values[n]))


def _ask_colour(data: Data, rng: random.Random) -> Question:
    series = rng.choice(data.series)
    words = (f"Which colour stands for {series.name}?", f"What colour is {series.name}?")
    return ask(rng, "series_colour", words, series.colour)


def _ask_owner(data: Data, rng: random.Random) -> Question:
    series = rng.choice(data.series)
    words = (f"What does {series.colour} stand for?", f"What is shown in {series.colour}?")
    return ask(rng, "series_owner", words, series.name)


def _ask_extreme_category(data: Data, rng: random.Random) -> Iterator[Question]:
    for series in data.series:
        word, value = rng.choice((("highest", max(series.values)), ("lowest", min(series.values))))
        words = (f"What is the {word} value of {series.name}?",)
        yield ask(rng, "series_extreme_value", words, str(value))
        if series.values.count(value) == 1:
            per, where = data.topic.per, data.categories[series.values.index(value)]
            words = (
                f"Which {per} has the {word} value of {series.name}?",
                f"For which {per} is {series.name} at its {word}?",
            )
            yield ask(rng, "series_extreme", words, where)


def _ask_extreme_series(data: Data, rng: random.Random) -> Question:
    n = rng.randrange(len(data.categories))
    column = [series.values[n] for series in data.series]
    word, value = rng.choice((("highest", max(column)), ("lowest", min(column))))
    name = data.categories[n]
    words = (f"Which has the {word} value for {name}?", f"What is {word} for {name}?")
    return ask(rng, "series_leader", words, data.series[column.index(value)].name)


def _ask_difference(data: Data, rng: random.Random) -> Question:
    n = rng.randrange(len(data.categories))
    one, other = rng.sample(data.series, 2)
    if one.values[n] < other.values[n]:
        one, other = other, one
    name = data.categories[n]
    words = (
        f"By how much is {one.name} above {other.name} for {name}?",
        f"What is the difference between {one.name} and {other.name} for {name}?",
    )
    return ask(rng, "series_difference", words, str(one.values[n] - other.values[n]))


def _ask_sum(data: Data, rng: random.Random) -> Question:
    n = rng.randrange(len(data.categories))
    name = data.categories[n]
    words = (
        f"What is the sum of all values for {name}?",
        f"What do the values for {name} add up to?",
    )
    return ask(rng, "series_sum", words, str(sum(series.values[n] for series in data.series)))


def _ask_leads(data: Data, rng: random.Random) -> Iterator[Question]:
    if len(data.series) != 2:
        return
    one, other = rng.sample(data.series, 2)
    wins = sum(a > b for a, b in zip(one.values, other.values, strict=True))
    words = (
        f"How many times is {one.name} above {other.name}?",
        f"In how many places of the chart is {one.name} higher than {other.name}?",
    )
    yield ask(rng, "series_leads", words, str(wins))
    n = rng.randrange(len(data.categories))
    words = (f"Is {one.name} higher than {other.name} for {data.categories[n]}?",)
    yield ask(rng, "series_compare", words, yes_or_no(one.values[n] > other.values[n]))
