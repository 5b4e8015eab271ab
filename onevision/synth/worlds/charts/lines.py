"""Line charts of one to three series over months, years, weekdays or hours."""

import random
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.canvas import Canvas
from onevision.synth.kit.words import join
from onevision.synth.worlds.charts.axes import ChartLook, Plot, frame, layout, random_look
from onevision.synth.worlds.charts.topics import INKS, Data, random_data


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Data, a look, and whether the area under a lone line is tinted."""

    data: Data
    look: ChartLook
    filled: bool
    kind: str = "line chart"


def random_lines(rng: random.Random) -> LineChart:
    """Generate a line chart's content and look."""
    num_series = rng.choice((1, 1, 2, 3))
    data = random_data(rng, num_series=num_series, num_categories=rng.randint(4, 8), ordered=True)
    look = random_look(rng, data, may_lie=False, may_label=num_series == 1)
    return LineChart(data=data, look=look, filled=num_series == 1 and rng.random() < 0.25)


def draw(chart: LineChart) -> PillowImage:
    """Draw a line chart."""
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


def _write_values(canvas: Canvas, values: tuple[int, ...], look: ChartLook, plot: Plot) -> None:
    """Write every value beside its point, on the side away from the line."""
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
    """Return a sentence about the colours of the lines."""
    series = chart.data.series
    if len(series) == 1:
        return f"The line is {series[0].colour}."
    return f"The line of {join(f'{s.name} is {s.colour}' for s in series)}."
