"""Questions about the course of lines: where they rise and fall, and by how much."""

import random
from collections.abc import Iterator

from onevision.synth.sample import Question, ask
from onevision.synth.worlds.charts.topics import Data


def questions(data: Data, rng: random.Random) -> Iterator[Question]:
    """Ask how the values of one series change from category to category."""
    series = rng.choice(data.series)
    of = f" of {series.name}" if series.name else ""
    steps = [b - a for a, b in zip(series.values, series.values[1:], strict=False)]
    n = rng.randrange(len(steps))
    way = "rise" if steps[n] > 0 else "fall" if steps[n] < 0 else "stay the same"
    a, b = data.categories[n], data.categories[n + 1]
    words = (
        f"Does the line{of} rise, fall or stay the same from {a} to {b}?",
        f"From {a} to {b}, does the line{of} rise, fall or stay the same?",
    )
    yield ask(rng, "trend_step", words, way)
    if steps[n]:
        words = (
            f"By how much does the line{of} {way} from {a} to {b}?",
            f"How large is the change{of} from {a} to {b}?",
        )
        yield ask(rng, "trend_change", words, str(abs(steps[n])))
    words = (f"How many times does the line{of} rise from one point to the next?",)
    yield ask(rng, "trend_rises", words, str(sum(step > 0 for step in steps)))
    largest = max(steps)
    if largest > 0 and steps.count(largest) == 1:
        where = data.categories[steps.index(largest) + 1]
        words = (
            f"Just before which {data.topic.per} does the line{of} rise the most?",
            f"At which {data.topic.per} does the largest rise of the line{of} end?",
        )
        yield ask(rng, "trend_largest_rise", words, where)
