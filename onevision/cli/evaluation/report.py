"""`onevision report`: results of `onevision eval` beside the paper's: a table, plots and a page."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="--output folders of `onevision eval`; without any, the paper's tables alone."
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Published models, such as 7b, 7b-si or gpt-4o; default 0.5b 7b 72b gpt-4v gpt-4o."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write to.")] = Path(
        "report"
    ),
) -> None:
    """Write report.md, bars.png, radar.png and report.html."""
    from onevision.eval.report.page import write_report
    from onevision.eval.report.table import BESIDE

    page = write_report(
        runs or (),
        output,
        beside=tuple(beside or BESIDE),
        warn=lambda text: print(text, file=sys.stderr),
    )
    print(page)
