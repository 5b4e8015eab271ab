"""`onevision report`: results of evaluations beside the paper's, as a table, plots and a page."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Directories of results; none: the paper alone.")
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Published models, as 7b, 7b-si or gpt-4o; default 0.5b 7b 72b gpt-4v gpt-4o."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write to.")] = Path(
        "report"
    ),
) -> None:
    """Write report.md, bars.png, radar.png and report.html."""
    from onevision.eval.report.comparison import BESIDE
    from onevision.eval.report.page import write_report

    page = write_report(
        runs or (),
        output,
        beside=tuple(beside or BESIDE),
        warn=lambda text: print(text, file=sys.stderr),
    )
    print(page)
