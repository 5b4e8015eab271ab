"""Runs of evaluations -> report.md, bars.png, radar.png and report.html, beside the paper.

results.json files -> Comparison -> tables and plots. Without matplotlib the plots are left out.
"""

import html
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template

from onevision import plots
from onevision.eval.report.comparison import BESIDE, Comparison, compare
from onevision.eval.report.plots import KINDS, group_svgs, sheet_png, styles

PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
TABLE, REPORT = "report.md", "report.html"
SOURCE = "Published figures: LLaVA-OneVision, arXiv 2408.03326v3, tables 3 to 5."
SCALE_NOTE = "Bars and spokes show the share of a figure's scale; 100 % is its end."
NO_RUNS = "What the paper reports"


def write_report(
    runs: Sequence[Path],
    directory: Path,
    *,
    beside: Sequence[str] = BESIDE,
    warn: Callable[[str], object] = str,
) -> Path:
    """Write the four files of a report into a directory; returns the page.

    `runs` are directories of results.json files, `beside` names published models. Without
    matplotlib there are no pictures, and `warn` is called once. Raises InputError.
    """
    comparison = compare(runs, beside=beside)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TABLE).write_text(markdown(comparison), encoding="utf-8")
    if plots.is_installed():
        for kind in KINDS:
            picture = sheet_png(kind, comparison, title=_title(comparison), subtitle=SCALE_NOTE)
            (directory / f"{kind}.png").write_bytes(picture)
    else:
        warn(f"{directory} has no pictures: {plots.MISSING}")
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


def page(comparison: Comparison) -> str:
    """Return the self-contained page."""
    notes = [f"{row.title}: {row.note}." for row in comparison.rows if row.note]
    colours = styles(comparison)
    return PAGE.substitute(
        title=html.escape(_title(comparison)),
        summary=html.escape(_summary(comparison)),
        style=plots.style_sheet(),
        keys="".join(
            f"<li><i{'' if c.is_published else ' class=bar'} "
            f'style="background: var(--{colours[c.name]})"></i>'
            f"{html.escape(c.title)}"
            for c in comparison.columns
        ),
        groups="\n".join(_sections(comparison)),
        heads="".join(
            f"<th{'' if c.is_published else ' class=run'}>{html.escape(c.title)}"
            for c in comparison.columns
        ),
        table="\n".join(_table(comparison)),
        settings="".join(_settings(comparison)),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in (SCALE_NOTE, SOURCE, *notes)),
    )


def _sections(comparison: Comparison) -> Iterator[str]:
    if not plots.is_installed():
        yield f"<p>No plots: {html.escape(plots.MISSING)}</p>"
        return
    for group, rows in comparison.groups():
        figures = "".join(f"<figure>{one}</figure>" for one in group_svgs(group, rows, comparison))
        yield f'<h2>{group.capitalize()}</h2>\n<div class="plots">{figures}</div>'


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


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
