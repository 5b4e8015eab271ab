"""Runs of evaluations -> report.md, bars.png, radar.png and report.html, beside the paper.

results.json files -> Comparison -> plots, drawn with a PixelPen (picture) and an SvgPen (page)
"""

import html
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.eval.report.comparison import BESIDE, Comparison, Row, compare
from onevision.eval.report.plots import (
    MIN_SPOKES,
    WIDTH,
    bars_height,
    draw_bars,
    draw_radar,
    radar_height,
    radar_rows,
    styles,
)
from onevision.pens import COLOURS, DENSITY, INK, PAPER, SCALE, PixelPen, SvgPen

PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
TABLE, BARS, RADAR, REPORT = "report.md", "bars.png", "radar.png", "report.html"
# The pictures: room above all plots, above each and around each.
HEADER, CAPTION, MARGIN, KEY = 64, 40, 28, 150
SOURCE = "Published figures: LLaVA-OneVision, arXiv 2408.03326v3, tables 3 to 5."
SCALE_NOTE = "Bars and spokes show the share of a figure's scale; 100 % is its end."
NO_RUNS = "What the paper reports"


def write_report(runs: Sequence[Path], directory: Path, *, beside: Sequence[str] = BESIDE) -> Path:
    """Write the four files of a report into a directory; returns the page.

    `runs` are directories of results.json files, `beside` names published models. Raises
    InputError.
    """
    comparison = compare(runs, beside=beside)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TABLE).write_text(markdown(comparison), encoding="utf-8")
    draw_sheet(comparison, bars=True).save(directory / BARS)
    draw_sheet(comparison, bars=False).save(directory / RADAR)
    (directory / REPORT).write_text(page(comparison), encoding="utf-8")
    return directory / REPORT


def markdown(comparison: Comparison) -> str:
    """Return the table in Markdown: runs first, in bold; intervals in brackets."""
    heads = ["", *(column.title for column in comparison.columns)]
    lines = [_line(heads), _line(["---", *["---:"] * len(comparison.columns)])]
    for group, rows in comparison.groups():
        lines.append(_line([f"*{group}*", *[""] * len(comparison.columns)]))
        for row in rows:
            cells = [
                f"**{row.say(column)}**"
                if column in comparison.runs and column.name in row.cells
                else row.say(column)
                for column in comparison.columns
            ]
            lines.append(_line([row.title, *cells]))
    notes = [f"* {row.title}: {row.note}." for row in comparison.rows if row.note]
    return "\n".join([*lines, "", SOURCE, "", *notes]).rstrip() + "\n"


def draw_sheet(comparison: Comparison, *, bars: bool) -> PillowImage:
    """Draw the bar charts, or the radars, of all groups side by side on one RGB sheet."""
    plots = [one for one in _plots(comparison) if one.bars == bars]
    width = max(1, len(plots)) * (WIDTH + MARGIN) + MARGIN
    keys = -(-len(comparison.columns) // max(1, (width - 2 * MARGIN) // KEY))
    top = HEADER + 22 * keys
    height = top + CAPTION + max((one.height for one in plots), default=0) + MARGIN
    sheet = PIL.new("RGB", (width * DENSITY, round(height * DENSITY)), PAPER)
    picture = ImageDraw.Draw(sheet, "RGBA")
    head = PixelPen(picture, left=MARGIN, top=0)
    head.text((0, 32), _title(comparison), "start", size=22, colour=INK)
    _draw_keys(comparison, head, width=width - 2 * MARGIN)
    for number, one in enumerate(plots):
        left = MARGIN + number * (WIDTH + MARGIN)
        words = PixelPen(picture, left=left, top=top)
        words.text((0, 18), one.group.capitalize(), "start", size=16, colour=INK)
        one.draw(PixelPen(picture, left=left, top=top + CAPTION))
    return sheet.resize((width * SCALE, round(height * SCALE)), PIL.Resampling.BOX)


def page(comparison: Comparison) -> str:
    """Return the self-contained page."""
    light, dark = (
        "".join(f"--{style}: {pair[place]}; " for style, pair in COLOURS.items())
        for place in (0, 1)
    )
    notes = [f"{row.title}: {row.note}." for row in comparison.rows if row.note]
    colours = styles(comparison)
    return PAGE.substitute(
        title=html.escape(_title(comparison)),
        summary=html.escape(_summary(comparison)),
        light=light,
        dark=dark,
        styles=" ".join(f".{style} {{ --colour: var(--{style}); }}" for style in COLOURS),
        keys="".join(
            f'<li><i class="{colours[c.name]}{"" if c.is_published else " bar"}"></i>'
            f"{html.escape(c.title)}"
            for c in comparison.columns
        ),
        groups="\n".join(_section(group, comparison) for group, _ in comparison.groups()),
        heads="".join(
            f"<th{'' if c.is_published else ' class=run'}>{html.escape(c.title)}"
            for c in comparison.columns
        ),
        table="\n".join(_table(comparison)),
        settings="".join(_settings(comparison)),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in (SCALE_NOTE, SOURCE, *notes)),
    )


class _Plot:
    """A bar chart or a radar of one group."""

    def __init__(
        self, group: str, rows: Sequence[Row], comparison: Comparison, *, bars: bool
    ) -> None:
        self.group, self.rows, self.comparison, self.bars = group, rows, comparison, bars
        self.height = bars_height(rows, comparison) if bars else radar_height()

    def draw(self, pen: SvgPen | PixelPen) -> None:
        how: Callable[[Sequence[Row], Comparison, SvgPen | PixelPen], None]
        how = draw_bars if self.bars else draw_radar
        how(self.rows, self.comparison, pen)

    def svg(self) -> str:
        pen = SvgPen()
        self.draw(pen)
        kind = "figures" if self.bars else "figures on spokes"
        return (
            f'<figure><svg class="plot" viewBox="0 0 {WIDTH} {self.height:g}" role="img" '
            f'aria-label="{self.group}, {kind}">{"".join(pen.parts)}</svg></figure>'
        )


def _plots(comparison: Comparison) -> Iterator[_Plot]:
    for group, rows in comparison.groups():
        yield _Plot(group, rows, comparison, bars=True)
        spokes = radar_rows(rows)
        if len(spokes) >= MIN_SPOKES:
            yield _Plot(group, spokes, comparison, bars=False)


def _section(group: str, comparison: Comparison) -> str:
    plots = "".join(one.svg() for one in _plots(comparison) if one.group == group)
    return f'<h2>{group.capitalize()}</h2>\n<div class="plots">{plots}</div>'


def _table(comparison: Comparison) -> Iterator[str]:
    for group, rows in comparison.groups():
        yield f'<tr class="group"><th>{group}<td colspan="{len(comparison.columns)}">'
        for row in rows:
            cells = "".join(
                f"<td{'' if column.is_published else ' class=run'}>{_html_cell(row.say(column))}"
                for column in comparison.columns
            )
            yield f"<tr><th>{html.escape(row.title)}{cells}"


def _html_cell(said: str) -> str:
    value, bracket, interval = said.partition(" [")
    return f"{value}<small>[{interval}</small>" if bracket else value


def _settings(comparison: Comparison) -> Iterator[str]:
    """Give what each run was told, once where all its tasks were told the same."""
    for column in comparison.runs:
        told: dict[str, list[str]] = {}
        for task, settings in comparison.settings[column.name].items():
            told.setdefault(json.dumps(settings, sort_keys=True), []).append(task)
        rows = "".join(
            f"<dt>{'all tasks' if len(told) == 1 else html.escape(', '.join(tasks))}"
            f"<dd><code>{html.escape(said)}</code>"
            for said, tasks in told.items()
        )
        yield f"<h2>Settings of {html.escape(column.title)}</h2><dl>{rows}</dl>"


def _title(comparison: Comparison) -> str:
    return ", ".join(column.title for column in comparison.runs) or NO_RUNS


def _summary(comparison: Comparison) -> str:
    beside = [column.title for column in comparison.columns if column.is_published]
    figures = f"{len(comparison.rows)} figures"
    if not comparison.runs:
        return f"{figures} of {len(beside)} models."
    return f"{figures}, beside {', '.join(beside)}." if beside else f"{figures}."


def _draw_keys(comparison: Comparison, pen: PixelPen, *, width: float) -> None:
    """Name the columns under the heading, as many in a row as there is room for."""
    in_a_row, colours = max(1, int(width // KEY)), styles(comparison)
    for number, column in enumerate(comparison.columns):
        x, y = (number % in_a_row) * KEY, 62 + 22 * (number // in_a_row)
        style = colours[column.name]
        if column.is_published:
            pen.dot((x + 5, y), style, hint=column.title)
        else:
            pen.area([(x, y - 4), (x + 12, y - 4), (x + 12, y + 4), (x, y + 4)], style, hint="")
        name = column.title if len(column.title) <= 20 else f"{column.title[:18]}..."
        pen.text((x + 18, y), name, "start", loud=not column.is_published)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
