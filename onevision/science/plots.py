"""The results of trials -> the pictures of docs/science.md, as PNG.

Dots are means over seeds, and lines through them their 95 % intervals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from onevision import plots
from onevision.eval.heldout import SCENARIOS
from onevision.science.claims import Results, RowFilter, where
from onevision.science.markdown import Ranged
from onevision.science.micro import RULES
from onevision.science.trials import CLAIMS
from onevision.synth.worlds.lettering.capitals import CAPITALS
from onevision.synth.worlds.lettering.signs import ASPECTS, SHARES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LINE, GAP, AXIS = 640, 13, 10, 45  # of a chart of rows, in points
PANEL_WIDTH, PANEL_HEIGHT = 270, 240
SUBTITLE = "mean and 95 % interval over seeds"
PERCENT = ((0, 0.25, 0.5, 0.75, 1), ("0 %", "25 %", "50 %", "75 %", "100 %"))


@dataclass(frozen=True, kw_only=True)
class ChartRow:
    """A question, and one estimate per series."""

    title: str
    estimates: tuple[Ranged, ...]


def stages_png(results: Results) -> bytes:
    """Plots the accuracy of each stage in each scenario."""
    arms = CLAIMS["stages"]
    rows = [
        ChartRow(
            title=scenario.replace("_", " "),
            estimates=tuple(results.accuracy(arm, where(scenario=scenario)) for arm in arms),
        )
        for scenario in SCENARIOS
    ]
    return rows_png("Held-out questions answered correctly, by stage", arms, rows)


def transfer_png(results: Results) -> bytes:
    """Plots what the single-image stage makes of several images and of video, by family."""
    rows = [
        ChartRow(
            title=f"{skill.scenario.split('_')[0]}: {skill.family}",
            estimates=(skill.sighted, skill.blind, skill.constant),
        )
        for skill in results.skills("single_image")
        if skill.scenario != "single_image"
    ]
    title = "Zero-shot accuracy: never trained on several images or video"
    return rows_png(title, ("sighted", "blind", "constant"), rows)


def sizes_png(results: Results) -> bytes:
    """Plots the letters read over visual tokens, by letter size."""
    panels = {f"letters 1/{1 / s:.0f} of the side": where(family="read", share=s) for s in SHARES}
    return _panels_png("Letters read correctly, by letter size", results, panels)


def aspects_png(results: Results) -> bytes:
    """Plots the letters read over visual tokens, by the aspect ratio of the sheet."""
    panels = {f"aspect ratio {a:g} : 1": where(family="read", aspect=a) for a in ASPECTS}
    return _panels_png("Letters read correctly, by aspect ratio", results, panels)


# The pictures of each claim, by file name.
PICTURES: Mapping[str, Mapping[str, Callable[[Results], bytes]]] = MappingProxyType(
    {
        "stages": {"stages.png": stages_png},
        "transfer": {"transfer.png": transfer_png},
        "resolution": {"sizes.png": sizes_png, "aspects.png": aspects_png},
    }
)


def rows_png(
    title: str, names: Sequence[str], rows: Sequence[ChartRow], *, subtitle: str = SUBTITLE
) -> bytes:
    """Plots one line per estimate on a scale of 0 to 100 %."""
    step = len(names) * LINE + GAP
    top = plots.heading_height(WIDTH, num_names=len(names))

    def plot(figure: "Figure") -> None:
        plots.add_heading(figure, title, f"accuracy, {subtitle}", legend=_legend(names))
        axes = figure.subplots()
        axes.set(xlim=(-0.01, 1.01), ylim=(len(rows) * step, 0))
        axes.xaxis.tick_top()
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks(*PERCENT)
        axes.set_yticks(
            [(number + 0.5) * step for number in range(len(rows))], [row.title for row in rows]
        )
        axes.tick_params(axis="y", labelcolor=plots.colour("ink"))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        for number, row in enumerate(rows):
            for place, estimate in enumerate(row.estimates):
                y = number * step + GAP / 2 + (place + 0.5) * LINE
                _plot_estimate(axes, place, (_clip(estimate), [y] * 2), (estimate.value, y))

    return plots.png(plot, width=WIDTH, height=top + AXIS + len(rows) * step)


def _panels_png(title: str, results: Results, panels: Mapping[str, RowFilter]) -> bytes:
    """Plots panels side by side on the same scales, with a line at what chance gets right."""
    rules, chance = tuple(RULES), 1 / len(CAPITALS)
    width = len(panels) * PANEL_WIDTH
    top = plots.heading_height(width, num_names=len(rules))

    def plot(figure: "Figure") -> None:
        subtitle = f"{SUBTITLE}; all rules trained with the same operations; dashed line: chance"
        plots.add_heading(figure, title, subtitle, legend=_legend(rules))
        places = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, chosen) in zip(places, panels.items(), strict=True):
            axes.set_title(name, fontsize=10, loc="center")
            axes.set_xlabel("visual tokens per image")
            axes.set_ylim(0, 1)
            axes.set_yticks(*PERCENT)
            axes.axhline(chance, color=plots.colour("soft"), linestyle="--", linewidth=1)
            for place, rule in enumerate(rules):
                tokens, estimate = results.tokens(rule, chosen), results.accuracy(rule, chosen)
                _plot_estimate(
                    axes, place, ([tokens] * 2, _clip(estimate)), (tokens, estimate.value)
                )
        places[0].set_xlim(left=0)

    return plots.png(plot, width=width, height=top + PANEL_HEIGHT)


def _plot_estimate(
    axes: "Axes",
    place: int,
    interval: "tuple[Sequence[float], Sequence[float]]",
    middle: tuple[float, float],
) -> None:
    """Plots an interval, as its xs and ys, and its middle, in the style of a series."""
    shade = plots.colour(plots.SERIES[place])
    axes.plot(*interval, color=shade)
    axes.plot(*middle, plots.MARKERS[place], color=shade, clip_on=False)


def _legend(names: Sequence[str]) -> "list[Artist]":
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=plots.colour(style), marker=marker, label=name)
        for name, style, marker in zip(names, plots.SERIES, plots.MARKERS, strict=False)
    ]


def _clip(estimate: Ranged) -> tuple[float, float]:
    """Returns an interval as far as the scale goes."""
    return max(0.0, estimate.low), min(1.0, estimate.high)
