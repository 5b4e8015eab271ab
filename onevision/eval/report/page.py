"""Runs of evaluations -> report.md, bars.png, radar.png and report.html, beside the paper.

results.json files -> PublishedTable -> tables and plots. Without matplotlib the plots are left out.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template

from onevision import plots
from onevision.eval.report.family import FamilyTable, family_tables
from onevision.eval.report.plots import KINDS, group_svgs, sheet_png, styles
from onevision.eval.report.table import (
    BESIDE,
    PublishedTable,
    build_table,
    published_source,
)
from onevision.plural import counted

PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
MARKDOWN, REPORT = "report.md", "report.html"
SCALE_NOTE = "Bars and spokes show the share of a figure's scale; 100 % is its end."
NO_RUNS = "What the paper reports"


def write_report(
    runs: Sequence[Path],
    directory: Path,
    *,
    beside: Sequence[str] = BESIDE,
    warn: Callable[[str], object] = str,
) -> Path:
    """Writes the four files of a report into a directory; returns the page.

    `runs` are directories of results.json files, `beside` names published models. Without
    matplotlib there are no pictures, and `warn` is called once. Raises InputError.
    """
    table = build_table(runs, beside=beside)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKDOWN).write_text(markdown(table), encoding="utf-8")
    if plots.is_installed():
        for kind in KINDS:
            picture = sheet_png(kind, table, title=_title(table), subtitle=SCALE_NOTE)
            (directory / f"{kind}.png").write_bytes(picture)
    else:
        warn(f"{directory} has no pictures: {plots.MISSING}")
    (directory / REPORT).write_text(page(table), encoding="utf-8")
    return directory / REPORT


def markdown(table: PublishedTable) -> str:
    """Returns the table in Markdown: runs first, in bold; intervals in brackets."""
    heads = ["", *(column.title for column in table.columns)]
    lines = [_line(heads), _line(["---", *["---:"] * len(table.columns)])]
    for group, rows in table.groups():
        lines.append(_line([f"*{group}*", *[""] * len(table.columns)]))
        for row in rows:
            cells = [
                f"**{row.format(column)}**"
                if column in table.runs and column.name in row.cells
                else row.format(column)
                for column in table.columns
            ]
            lines.append(_line([row.title, *cells]))
    notes = [f"* {note}" for note in table.notes()]
    family = [line for one in _family(table) for line in _family_markdown(one)]
    return "\n".join([*lines, "", published_source(), "", *notes, *family]).rstrip() + "\n"


def page(table: PublishedTable) -> str:
    """Returns the self-contained page."""
    notes = (SCALE_NOTE, published_source(), *table.notes())
    colours = styles(table)
    return PAGE.substitute(
        title=html.escape(_title(table)),
        summary=html.escape(_summary(table)),
        style=plots.style_sheet(),
        keys="".join(
            f"<li><i{'' if c.is_published else ' class=bar'} "
            f'style="background: var(--{colours[c.name]})"></i>'
            f"{html.escape(c.title)}"
            for c in table.columns
        ),
        groups="\n".join(_sections(table)),
        heads="".join(
            f"<th{'' if c.is_published else ' class=run'}>{html.escape(c.title)}"
            for c in table.columns
        ),
        table="\n".join(_table_rows(table)),
        family="\n".join(map(_family_section, _family(table))),
        settings="".join(_settings(table)),
        notes="".join(f"<p>{html.escape(note)}</p>" for note in notes),
    )


def _family(table: PublishedTable) -> list[FamilyTable]:
    return family_tables({column.title: table.results[column.name] for column in table.runs})


def _family_markdown(family: FamilyTable) -> list[str]:
    heads = ["", *family.columns.values()]
    rows = [
        _line([row.title, *(f"**{c}**" if row.is_run else c for c in family.cells(row))])
        for row in family.rows
    ]
    rule = _line(["---", *["---:"] * len(family.columns)])
    return ["", f"## {family.title}", "", _line(heads), rule, *rows, "", f"{family.source}."]


def _family_section(family: FamilyTable) -> str:
    heads = "".join(f"<th>{html.escape(head)}" for head in family.columns.values())
    rows = "\n".join(
        f"<tr><th>{html.escape(row.title)}"
        + "".join(f"<td{' class=run' if row.is_run else ''}>{cell}" for cell in family.cells(row))
        for row in family.rows
    )
    return (
        f'<h2>{html.escape(family.title)}</h2>\n<div class="wide" tabindex="0" role="region" '
        f'aria-label="{html.escape(family.title)}">\n'
        f"<table><thead><tr><th>{heads}</tr></thead>\n{rows}\n</table>\n</div>\n"
        f"<p>{html.escape(family.source)}.</p>"
    )


def _sections(table: PublishedTable) -> Iterator[str]:
    if not plots.is_installed():
        yield f"<p>No plots: {html.escape(plots.MISSING)}</p>"
        return
    for group, rows in table.groups():
        figures = "".join(f"<figure>{one}</figure>" for one in group_svgs(group, rows, table))
        yield f'<h2>{group.capitalize()}</h2>\n<div class="plots">{figures}</div>'


def _table_rows(table: PublishedTable) -> Iterator[str]:
    for group, rows in table.groups():
        yield f'<tr class="group"><th>{group}<td colspan="{len(table.columns)}">'
        for row in rows:
            cells = "".join(
                f"<td{'' if column.is_published else ' class=run'}>{_html_cell(row.format(column))}"
                for column in table.columns
            )
            yield f"<tr><th>{html.escape(row.title)}{cells}"


def _html_cell(text: str) -> str:
    value, bracket, interval = text.partition(" [")
    return f"{value}<small>[{interval}</small>" if bracket else value


def _settings(table: PublishedTable) -> Iterator[str]:
    """Yields what each run's answers depend on, once for all tasks that share it."""
    for column in table.runs:
        tasks: dict[str, list[str]] = {}
        for result in table.results[column.name]:
            settings = {
                "profile": result.profile,
                "seed": result.seed,
                "dtype": result.model.dtype,
                "fingerprint": result.model.fingerprint,
                "judge": result.judge.model if result.judge else None,
                **result.versions,
            }
            text = ", ".join(f"{name} {value}" for name, value in settings.items() if value)
            tasks.setdefault(text, []).append(result.task)
        rows = "".join(
            f"<dt>{'all tasks' if len(tasks) == 1 else html.escape(', '.join(names))}"
            f"<dd><code>{html.escape(text)}</code>"
            for text, names in tasks.items()
        )
        yield f"<h2>Settings of {html.escape(column.title)}</h2><dl>{rows}</dl>"


def _title(table: PublishedTable) -> str:
    return ", ".join(column.title for column in table.runs) or NO_RUNS


def _summary(table: PublishedTable) -> str:
    beside = [column.title for column in table.columns if column.is_published]
    figures = counted(len(table.rows), "figure")
    if not table.runs:
        return f"{figures} of {counted(len(beside), 'model')}."
    return f"{figures}, beside {', '.join(beside)}." if beside else f"{figures}."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
