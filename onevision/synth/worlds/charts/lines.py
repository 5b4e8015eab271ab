"""Line charts of one to three series over months, years, weekdays or hours."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.words import join
from onevision.synth.sample import Question, ask
from onevision.synth.worlds.charts.axes import ChartArea, ChartLook, frame, layout, random_look
from onevision.synth.worlds.charts.topics import INKS, Data, random_data


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Data, a look, and whether the area under a lone line is tinted."""

    data: Data
    look: ChartLook
    filled: bool
    kind: str = "line chart"


def random_lines(rng: random.Random) -> LineChart:
    """Generates a line chart's content and look."""
    num_series = rng.choice((1, 1, 2, 3))
    data = random_data(rng, num_series=num_series, num_categories=rng.randint(4, 8), ordered=True)
    look = random_look(rng, data, may_lie=False, may_label=num_series == 1)
    return LineChart(data=data, look=look, filled=num_series == 1 and rng.random() < 0.25)


def draw(chart: LineChart) -> PillowImage:
    """Draws a line chart."""
    data, look = chart.data, chart.look
    plot = layout(data, look)
    canvas = frame(data, look, plot)
    for series in data.series:
        ink = INKS[series.colour]
        points = [plot.spot(n + 0.5, value) for n, value in enumerate(series.values)]
        if chart.filled:
            ends = [(points[-1][0], plot.bottom - 1), (points[0][0], plot.bottom - 1)]
            pale = (ink[0] // 4 + 180, ink[1] // 4 + 180, ink[2] // 4 + 180)
            canvas.polygon([*points, *ends], fill=pale)
        canvas.line(points, ink=ink, thickness=2)
        for x, y in points:
            canvas.circle(x, y, 3.5, fill=ink)
    if look.labelled:
        _write_values(canvas, data.values, look, plot)
    return canvas.picture()


def _write_values(
    canvas: Canvas, values: tuple[int, ...], look: ChartLook, plot: ChartArea
) -> None:
    """Writes every value beside its point, on the side away from the line."""
    for n, value in enumerate(values):
        x, y = plot.spot(n + 0.5, value)
        before, after = values[max(0, n - 1)], values[min(len(values) - 1, n + 1)]
        room = y + look.letters.line_height + 6 < plot.bottom
        if before >= value <= after and before + after > 2 * value and room:
            canvas.text(x, y + 7, str(value), letters=look.letters, anchor="mt")
        elif before < value < after:
            canvas.text(x + 2, y - 6, str(value), letters=look.letters, anchor="rs")
        elif before > value > after:
            canvas.text(x - 2, y - 6, str(value), letters=look.letters, anchor="ls")
        else:
            canvas.text(x, y - 7, str(value), letters=look.letters, anchor="ms")


def describe_colours(chart: LineChart) -> str:
    """Returns a sentence about the colours of the lines."""
    series = chart.data.series
    if len(series) == 1:
        return f"The line is {series[0].colour}."
    return f"The line of {join(f'{s.name} is {s.colour}' for s in series)}."


def ask_trends(data: Data, rng: random.Random) -> Iterator[Question]:
    """Asks how the values of one series change from category to category."""
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
