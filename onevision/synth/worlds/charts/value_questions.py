"""Questions about a chart with one value per category, whatever kind of chart it is."""

import random
from collections.abc import Iterator

from onevision.synth.kit.words import yes_or_no
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.charts.topics import Data


def questions(data: Data, rng: random.Random, *, mark: str) -> Iterator[Question]:
    """Asks about the only series of a chart; `mark` is what stands for a value: "bar", "point"."""
    yield _ask_value(data, rng)
    yield from _ask_category_at(data, rng)
    yield from _ask_extremes(data, rng)
    yield from _ask_second(data, rng)
    yield from _ask_difference(data, rng)
    yield from _ask_sum(data, rng)
    yield from _ask_compare(data, rng)
    yield from _ask_count_above(data, rng, mark)
    words = (f"How many {mark}s does the chart have?", f"Count the {mark}s.")
    yield ask(rng, "chart_count", words, str(len(data.categories)))
    yield title_question(data, rng)


def title_question(data: Data, rng: random.Random) -> Question:
    """Asks for the title."""
    words = (
        "What is the title of the chart?",
        "Read the title of the chart.",
        "What is written above the chart?",
    )
    return ask(rng, "chart_title", words, data.title)


def _ask_value(data: Data, rng: random.Random) -> Question:
    n = rng.randrange(len(data.categories))
    name = data.categories[n]
    words = (
        data.topic.question.format(name),
        data.topic.question.format(name),
        f"What is the value for {name}?",
        f"Which value does {name} have?",
    )
    return ask(rng, "chart_value", words, str(data.values[n]))


def _ask_category_at(data: Data, rng: random.Random) -> Iterator[Question]:
    alone = [n for n, v in enumerate(data.values) if data.values.count(v) == 1]
    if alone:
        n = rng.choice(alone)
        value, per = data.values[n], data.topic.per
        words = (f"Which {per} has the value {value}?", f"For which {per} is the value {value}?")
        yield ask(rng, "chart_category", words, data.categories[n])


def _ask_extremes(data: Data, rng: random.Random) -> Iterator[Question]:
    per = data.topic.per
    for word, value in (("highest", max(data.values)), ("lowest", min(data.values))):
        words = (f"What is the {word} value?", f"What is the {word} value in the chart?")
        yield ask(rng, "chart_extreme_value", words, str(value))
        if data.values.count(value) == 1:
            words = (f"Which {per} has the {word} value?", f"For which {per} is the value {word}?")
            name = data.categories[data.values.index(value)]
            yield ask(rng, "chart_extreme", words, name)


def _ask_second(data: Data, rng: random.Random) -> Iterator[Question]:
    ranked = sorted(data.values, reverse=True)
    if len(ranked) > 2 and ranked[0] > ranked[1] > ranked[2]:
        per = data.topic.per
        words = (
            f"Which {per} has the second highest value?",
            f"For which {per} is the value second highest?",
        )
        yield ask(rng, "chart_rank", words, data.categories[data.values.index(ranked[1])])


def _ask_difference(data: Data, rng: random.Random) -> Iterator[Question]:
    n, m = rng.sample(range(len(data.categories)), 2)
    if data.values[n] < data.values[m]:
        n, m = m, n
    difference = data.values[n] - data.values[m]
    if difference:
        a, b = data.categories[n], data.categories[m]
        words = (
            f"By how much is the value for {a} above the value for {b}?",
            f"What is the difference between the values for {a} and {b}?",
            f"How much higher is the value for {a} than for {b}?",
        )
        yield ask(rng, "chart_difference", words, str(difference))


def _ask_sum(data: Data, rng: random.Random) -> Iterator[Question]:
    n, m = sorted(rng.sample(range(len(data.categories)), 2))
    a, b = data.categories[n], data.categories[m]
    words = (
        f"What is the sum of the values for {a} and {b}?",
        f"What do the values for {a} and {b} add up to?",
    )
    yield ask(rng, "chart_sum", words, str(data.values[n] + data.values[m]))
    if len(data.values) <= 4:
        words = ("What is the sum of all values?", "What do all values add up to?")
        yield ask(rng, "chart_total", words, str(sum(data.values)))


def _ask_compare(data: Data, rng: random.Random) -> Iterator[Question]:
    n, m = rng.sample(range(len(data.categories)), 2)
    a, b = data.categories[n], data.categories[m]
    if data.values[n] == data.values[m]:
        return
    if rng.random() < 0.5:
        words = (
            f"Is the value for {a} higher than for {b}?",
            f"Does {a} have a higher value than {b}?",
        )
        yield ask(rng, "chart_compare", words, yes_or_no(data.values[n] > data.values[m]))
        return
    words = (
        f"Which value is higher, the one for {a} or for {b}?",
        f"Which has the higher value, {a} or {b}?",
    )
    yield ask(rng, "chart_compare", words, a if data.values[n] > data.values[m] else b)


def _ask_count_above(data: Data, rng: random.Random, mark: str) -> Iterator[Question]:
    free = [v for v in range(data.step, data.top, data.step) if v not in data.values]
    if free:
        limit = rng.choice(free)
        above = rng.random() < 0.5
        count = sum((value > limit) == above for value in data.values)
        word = "above" if above else "below"
        words = (f"How many values are {word} {limit}?", f"How many {mark}s are {word} {limit}?")
        yield ask(rng, "chart_count_beyond", words, str(count))
