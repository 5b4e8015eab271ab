"""Bar, line, pie and scatter charts whose every value can be read.

     Goals per player          "A vertical bar chart titled Goals per player with 3 bars ..."
  20 ┤██                       How many goals did Ada score?   20
  10 ┤██  ██                   Which player is the lowest?     Mei
   0 ┼██──██──██──             What is the difference between Ada and Mei?  15
     Ada  Tom Mei

Values are written on their marks, or lie on a labelled grid line or half way between two.
"""

import random
from collections.abc import Iterator

from PIL.Image import Image as PillowImage

from onevision.synth.kit.questions import picture_sample
from onevision.synth.kit.words import join
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.charts import (
    bars,
    lines,
    pies,
    scatters,
    series_questions,
    value_questions,
)
from onevision.synth.worlds.charts.topics import Data


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th chart of a split."""
    rng = rng_for(split, "charts", index)
    kind = rng.choice((_bars, _bars, _bars, _lines, _lines, _pie, _pie, _scatter))
    return kind(rng)


def _bars(rng: random.Random) -> Sample:
    chart = bars.random_bars(rng)
    asked = _ask_values(chart.data, rng, mark="bar")
    if chart.colourful:
        asked += _ask_bar_colours(chart, rng)
    return _sample(rng, chart, bars.draw(chart), colours=bars.describe_colours(chart), asked=asked)


def _lines(rng: random.Random) -> Sample:
    chart = lines.random_lines(rng)
    asked = _ask_values(chart.data, rng, mark="point")
    asked += lines.ask_trends(chart.data, rng)
    colours = lines.describe_colours(chart)
    return _sample(rng, chart, lines.draw(chart), colours=colours, asked=asked)


def _sample(
    rng: random.Random,
    chart: bars.BarChart | lines.LineChart,
    picture: PillowImage,
    *,
    colours: str,
    asked: list[Question],
) -> Sample:
    """Returns the sample of a chart with one or several series."""
    caption = _caption(chart.kind, chart.data)
    return picture_sample(
        rng,
        picture,
        caption=caption,
        detail=f"{caption} {colours} {_describe(chart.data)}",
        asked=asked,
        aspects=tuple(_values(chart.data)),
    )


def _pie(rng: random.Random) -> Sample:
    chart = pies.random_pie(rng)
    caption = f"A {chart.kind} titled {chart.title} with {len(chart.names)} slices."
    names = f"The slices are {join(chart.names)}."
    return picture_sample(
        rng,
        pies.draw(chart),
        caption=f"{caption} {names}",
        detail=f"{caption} {pies.describe(chart)} {names}",
        asked=pies.questions(chart, rng),
        aspects=(f"Shares: {pies.list_shares(chart)}.",) if chart.labelled else (),
    )


def _scatter(rng: random.Random) -> Sample:
    chart = scatters.random_scatter(rng)
    caption = f"A scatter chart of {chart.title.lower()} with {len(chart.dots)} points."
    axes = f"The horizontal axis shows {chart.x_name}, the vertical axis {chart.y_name}."
    return picture_sample(
        rng,
        scatters.draw(chart),
        caption=f"{caption} {axes}",
        detail=f"{caption} {axes} {scatters.describe(chart)}",
        asked=scatters.questions(chart, rng),
        aspects=(f"Points: {scatters.list_places(chart)}.",) if chart.named else (),
    )


def _ask_values(data: Data, rng: random.Random, *, mark: str) -> list[Question]:
    kind = value_questions if len(data.series) == 1 else series_questions
    return list(kind.questions(data, rng, mark=mark))


def _ask_bar_colours(chart: bars.BarChart, rng: random.Random) -> list[Question]:
    n, m = rng.sample(range(len(chart.colours)), 2)
    names, colour = chart.data.categories, chart.colours[m]
    which = (f"What colour is the bar for {names[n]}?", f"Which colour is the bar of {names[n]}?")
    what = (f"What does the {colour} bar stand for?", f"Which bar is {colour}?")
    return [
        ask(rng, "bar_colour", which, chart.colours[n]),
        ask(rng, "bar_of_colour", what, names[m]),
    ]


def _caption(kind: str, data: Data) -> str:
    first, last = data.categories[0], data.categories[-1]
    count = len(data.categories)
    named = f"A {kind} titled {data.title} with values for {count} categories, {first} to {last}."
    if len(data.series) == 1:
        return named
    return f"{named} It compares {join(series.name for series in data.series)}."


def _values(data: Data) -> Iterator[str]:
    """Yields the values of one series at a time: "Values of Lyon: Mon 4, Tue 12."."""
    for series in data.series:
        pairs = zip(data.categories, series.values, strict=True)
        values = ", ".join(f"{name} {value}" for name, value in pairs)
        yield f"Values{f' of {series.name}' if series.name else ''}: {values}."


def _describe(data: Data) -> str:
    """Lists every value, then the extremes."""
    sentences = []
    for series in data.series:
        pairs = zip(data.categories, series.values, strict=True)
        values = join(f"{name} {value}" for name, value in pairs)
        sentences.append(f"The values{f' of {series.name}' if series.name else ''} are {values}.")
        high, low = max(series.values), min(series.values)
        sentences.append(f"The highest is {high}, the lowest {low}.")
    return " ".join(sentences)
