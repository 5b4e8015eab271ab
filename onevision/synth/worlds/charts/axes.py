"""The frame of a chart: data and a look -> where values lie, title, grid, axes and legend.

   Books sold by city          title
40 ┤· · · · · · · · ·          a labelled line at every step, a faint one half way
20 ┤  ██ · · ██ · · ·
 0 ┼──██─────██──────
     Rome   Oslo               categories
"""

import random
from dataclasses import dataclass

from onevision.synth.kit.canvas import BLACK, Canvas
from onevision.synth.kit.shapes import Colour, Point
from onevision.synth.kit.text import Letters
from onevision.synth.worlds.charts.topics import INKS, Data

GROUNDS: tuple[Colour, ...] = ((252, 252, 252), (255, 255, 255), (250, 247, 238), (240, 244, 250))
MARGIN = 10
MAX_WIDTH = 440
# The share of a slot that its bars fill.
FILLED = 0.7


@dataclass(frozen=True, kw_only=True)
class ChartLook:
    """How a chart is drawn: pixels per category and for the value axis, letters, extras."""

    slot: int
    reach: int
    letters: Letters
    ground: Colour
    horizontal: bool = False
    labelled: bool = False
    axis_titles: bool = False
    legend_below: bool = False

    @property
    def title_letters(self) -> Letters:
        """The letters of the title."""
        return Letters(size=self.letters.size + 3, bold=True)


@dataclass(frozen=True, kw_only=True)
class ChartArea:
    """Where things lie: the picture's size, the plotting area, its slots and its highest value."""

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int
    num_slots: int
    max_value: int
    horizontal: bool

    def spot(self, place: float, value: float) -> Point:
        """Returns the point of a value at a place; the middle of slot `i` is the place i + 0.5."""
        along, share = place / self.num_slots, value / self.max_value
        if self.horizontal:
            return (
                self.left + share * (self.right - self.left),
                self.top + along * (self.bottom - self.top),
            )
        return (
            self.left + along * (self.right - self.left),
            self.bottom - share * (self.bottom - self.top),
        )


def random_look(rng: random.Random, data: Data, *, may_lie: bool, may_label: bool) -> ChartLook:
    """Chooses a look in which every label has room; `may_lie` allows horizontal bars."""
    letters = Letters(size=rng.randint(11, 14))
    widest = max(letters.width(name) for name in data.categories)
    labelled = may_label and rng.random() < 0.4
    number = letters.width(str(data.top))
    bar = number + 7 if labelled else 14
    group = round(bar * len(data.series) / FILLED) if may_lie else bar
    slot = max(rng.randint(26, min(54, 330 // len(data.categories))), widest + 12, group)
    reach = rng.randint(150, 230)
    horizontal = may_lie and (rng.random() < 0.35 or slot * len(data.categories) > MAX_WIDTH - 60)
    if horizontal:
        slot = max(rng.randint(24, 34), round((letters.size + 3) * len(data.series) / FILLED))
        reach = max(reach, (number + 9) * (data.top // data.step))
    return ChartLook(
        slot=slot,
        reach=reach,
        letters=letters,
        ground=rng.choice(GROUNDS),
        horizontal=horizontal,
        labelled=labelled,
        axis_titles=rng.random() < 0.4,
        legend_below=rng.random() < 0.5,
    )


def layout(data: Data, look: ChartLook) -> ChartArea:
    """Makes room for every part of the chart."""
    letters = look.letters
    names = max(letters.width(name) for name in data.categories)
    ticks = letters.width(str(data.top))
    row = letters.line_height
    spare = row + 4 if look.axis_titles else 0
    left = MARGIN + 6 + (names if look.horizontal else ticks) + spare
    top = MARGIN + look.title_letters.line_height + 10
    if look.labelled and not look.horizontal:
        top += row
    along = look.slot * len(data.categories)
    across = look.reach
    inner = (across, along) if look.horizontal else (along, across)
    title = look.title_letters.width(data.title)
    legend, below = _legend_room(data, look)
    beyond = letters.width(str(data.top)) + 6 if look.horizontal else 0
    right = left + max(inner[0], title + 2 * MARGIN - left - legend - beyond)
    bottom = top + inner[1]
    return ChartArea(
        width=right + MARGIN + legend + beyond,
        height=bottom + row + MARGIN + spare + below,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        num_slots=len(data.categories),
        max_value=data.top,
        horizontal=look.horizontal,
    )


def frame(data: Data, look: ChartLook, plot: ChartArea) -> Canvas:
    """Draws everything but the data."""
    canvas = Canvas(plot.width, plot.height, ground=look.ground)
    canvas.text(
        plot.width / 2, MARGIN, data.title, letters=look.title_letters, anchor="mt", ink=BLACK
    )
    _draw_grid(canvas, data, look, plot)
    _draw_names(canvas, data, look, plot)
    if look.axis_titles:
        _draw_axis_titles(canvas, data, look, plot)
    if len(data.series) > 1:
        _draw_legend(canvas, data, look, plot)
    return canvas


def _legend_room(data: Data, look: ChartLook) -> tuple[int, int]:
    """Returns how many pixels the legend takes at the right and below."""
    if len(data.series) == 1:
        return 0, 0
    if look.legend_below:
        return 0, look.letters.line_height + 6
    return max(look.letters.width(series.name) for series in data.series) + 28, 0


def _draw_grid(canvas: Canvas, data: Data, look: ChartLook, plot: ChartArea) -> None:
    half = data.step // 2
    for value in range(0, data.top + 1, half):
        start, end = plot.spot(0, value), plot.spot(plot.num_slots, value)
        labelled = value % data.step == 0
        if value:
            canvas.line([start, end], ink=(198,) * 3 if labelled else (229,) * 3, thickness=1)
        if labelled and look.horizontal:
            canvas.text(start[0], plot.bottom + 4, str(value), letters=look.letters, anchor="mt")
        elif labelled:
            canvas.text(plot.left - 5, start[1], str(value), letters=look.letters, anchor="rm")
    corner = (plot.left, plot.bottom)
    canvas.line([(plot.left, plot.top), corner], ink=BLACK, thickness=1)
    canvas.line([corner, (plot.right, plot.bottom)], ink=BLACK, thickness=1)


def _draw_names(canvas: Canvas, data: Data, look: ChartLook, plot: ChartArea) -> None:
    for n, name in enumerate(data.categories):
        x, y = plot.spot(n + 0.5, 0)
        if look.horizontal:
            canvas.text(x - 5, y, name, letters=look.letters, anchor="rm")
        else:
            canvas.text(x, y + 4, name, letters=look.letters, anchor="mt")


def _draw_axis_titles(canvas: Canvas, data: Data, look: ChartLook, plot: ChartArea) -> None:
    names, values = data.topic.per.capitalize(), data.topic.quantity
    across, upwards = (values, names) if look.horizontal else (names, values)
    middle = (plot.left + plot.right) / 2
    below = plot.bottom + 6 + look.letters.line_height
    canvas.text(middle, below, across, letters=look.letters, anchor="mt", ink=(70, 70, 70))
    canvas.text_upwards(
        MARGIN + look.letters.line_height / 2 - 4, (plot.top + plot.bottom) / 2, upwards,
        letters=look.letters, ink=(70, 70, 70),
    )  # fmt: skip


def _draw_legend(canvas: Canvas, data: Data, look: ChartLook, plot: ChartArea) -> None:
    letters = look.letters
    x, y = plot.right + 10, plot.top + 4
    if look.legend_below:
        room = sum(letters.width(s.name) + 28 for s in data.series)
        x, y = max(4, (plot.width - room) // 2), plot.height - letters.line_height - 4
    for series in data.series:
        canvas.rectangle(x, y, x + 12, y + 12, fill=INKS[series.colour])
        canvas.text(x + 17, y + 6, series.name, letters=letters, anchor="lm")
        if look.legend_below:
            x += letters.width(series.name) + 28
        else:
            y += letters.line_height + 4
