"""A diagram and a bar chart of the same things, to be read together.

+-----------+ +-----------+   How high is the bar of the thing to which the arrow from the
| *-->o     | |  7     2  |   star leads?                                              4
|   ^ <-'   | |  #  4  #  |   To which thing does the arrow from the highest bar lead?
|           | |  *  o  ^  |                                                   green circle
+-----------+ +-----------+   Does every arrow lead to a higher bar?                  no
"""

import random
from collections.abc import Iterator
from itertools import pairwise

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import join, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.composed.figures import (
    Figures,
    describe_chart,
    describe_diagram,
    draw_chart,
    draw_diagram,
    random_figures,
    sorted_looks,
)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th diagram with its chart of a split."""
    rng = rng_for(split, "figure_pairs", index)
    figures = draw_apart(split, rng, random_figures, describe)
    pictures = [draw_diagram(figures, rng), draw_chart(figures, rng)]
    rng.shuffle(pictures)
    names = join(look.name for look in sorted_looks(figures))
    return picture_sample(
        rng,
        *pictures,
        caption=f"A diagram and a bar chart of the same things: {names}.",
        detail=describe(figures),
        asked=_questions(figures, rng),
    )


def describe(figures: Figures) -> str:
    """Says what both figures show."""
    return f"{describe_diagram(figures)} {describe_chart(figures)}"


def _questions(figures: Figures, rng: random.Random) -> Iterator[Question]:
    """Asks what needs both figures."""
    looks, values = [look.name for look in figures.looks], figures.values
    for n, m in pairwise(range(len(looks))):
        words: tuple[str, ...] = (
            f"How high is the bar of the thing to which the arrow from the {looks[n]} leads?",
            f"In the chart, how high is the thing that follows the {looks[n]} in the diagram?",
        )
        yield ask(rng, "value_of_next", words, str(values[m]))
    for word, n in (("highest", figures.highest), ("lowest", figures.lowest)):
        if n + 1 < len(looks):
            words = (f"To which thing does the arrow from the thing with the {word} bar lead?",)
            yield ask(rng, "next_of_extreme", words, looks[n + 1])
        if n:
            words = (f"From which thing does an arrow lead to the thing with the {word} bar?",)
            yield ask(rng, "previous_of_extreme", words, looks[n - 1])
    words = ("What do the bars of the first and the last thing of the diagram add up to?",)
    yield ask(rng, "sum_of_ends", words, str(values[0] + values[-1]))
    words = ("Which has the higher bar, the first or the last thing of the diagram?",)
    yield ask(rng, "higher_end", words, looks[0] if values[0] > values[-1] else looks[-1])
    rising = sum(a < b for a, b in pairwise(values))
    words = ("How many arrows lead to a thing with a higher bar than where they begin?",)
    yield ask(rng, "rising", words, str(rising))
    words = ("Does every arrow lead to a higher bar?",)
    yield ask(rng, "all_rise", words, yes_or_no(rising == len(values) - 1))
