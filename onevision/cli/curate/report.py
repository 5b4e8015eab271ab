"""`onevision curate report`: a page of what a job made."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    made: Annotated[
        Path,
        typer.Argument(help="The output of instruct, recaption, evolve or gate; or of balance."),
    ],
    samples: Annotated[int, typer.Option(min=0, help="Tasks to show, drawn at random.")] = 20,
) -> None:
    """Write a page: what was kept, what was refused and why, samples, costs, concepts."""
    from onevision.curate import report_kept
    from onevision.curate.report import write_report

    if report_kept.is_balanced(made):
        path = report_kept.write_balance_report(made)
    elif report_kept.is_gated(made):
        path = report_kept.write_gate_report(made, num_samples=samples)
    else:
        path = write_report(made, num_samples=samples)
    print(f"wrote {path}")
