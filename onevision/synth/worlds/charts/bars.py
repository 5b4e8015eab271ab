"""Bar charts, vertical or horizontal, with one bar per category or a group of two or three."""

import random
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.synth.kit.shapes import Point
from onevision.synth.kit.words import join
from onevision.synth.worlds.charts.axes import (
    FILLED,
    ChartArea,
    ChartLook,
    frame,
    layout,
    random_look,
)
from onevision.synth.worlds.charts.topics import INKS, Data, random_data


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Data, a look, and one colour for every bar of a single series."""

    data: Data
    look: ChartLook
    colours: tuple[str, ...]

    @property
    def colourful(self) -> bool:
        """Whether each bar of the only series has its own colour."""
        return len(self.data.series) == 1 and len(set(self.colours)) == len(self.colours)

    @property
    def kind(self) -> str:
        """What the chart is called."""
        way = "horizontal" if self.look.horizontal else "vertical"
        return f"{'grouped ' if len(self.data.series) > 1 else ''}{way} bar chart"


def random_bars(rng: random.Random) -> BarChart:
    """Generates a bar chart's content and look."""
    grouped = rng.random() < 0.35
    num_series = rng.choice((2, 2, 3)) if grouped else 1
    data = random_data(
        rng, num_series=num_series, num_categories=rng.randint(3, 5 if grouped else 8)
    )
    look = random_look(rng, data, may_lie=True, may_label=True)
    colour = data.series[0].colour
    colours = (colour,) * len(data.categories)
    if not grouped and rng.random() < 0.4:
        colours = tuple(rng.sample(list(INKS), len(data.categories)))
    return BarChart(data=data, look=look, colours=colours)


def draw(chart: BarChart) -> PillowImage:
    """Draws a bar chart."""
    data, look = chart.data, chart.look
    plot = layout(data, look)
    canvas = frame(data, look, plot)
    for s, series in enumerate(data.series):
        for n, value in enumerate(series.values):
            (x0, y0), (x1, y1) = bar_corners(chart, plot, category=n, series=s)
            name = chart.colours[n] if len(data.series) == 1 else series.colour
            canvas.rectangle(x0, y0, x1, y1, fill=INKS[name])
            if look.labelled:
                x, y = (x1 + 4, (y0 + y1) / 2) if look.horizontal else ((x0 + x1) / 2, y0 - 3)
                anchor = "lm" if look.horizontal else "ms"
                canvas.text(x, y, str(value), letters=look.letters, anchor=anchor)
    return canvas.picture()


def bar_corners(
    chart: BarChart, plot: ChartArea, *, category: int, series: int
) -> tuple[Point, Point]:
    """Returns the upper left and the lower right corner of a bar."""
    count = len(chart.data.series)
    begin = category + (1 - FILLED) / 2 + FILLED * series / count
    value = chart.data.series[series].values[category]
    a = plot.spot(begin, 0)
    b = plot.spot(begin + FILLED / count, value)
    return (min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))


def describe_colours(chart: BarChart) -> str:
    """Returns a sentence about the colours of the bars."""
    if len(chart.data.series) > 1:
        return f"The bars of {join(f'{s.name} are {s.colour}' for s in chart.data.series)}."
    if not chart.colourful:
        return f"All bars are {chart.colours[0]}."
    pairs = zip(chart.data.categories, chart.colours, strict=True)
    return f"The bar for {join(f'{name} is {colour}' for name, colour in pairs)}."
