"""`onevision curate gate`: drops the records that gates mark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.evaluation.judges import (
    JudgeModelOption,
    JudgePricesOption,
    open_panel,
    print_usage,
)
from onevision.cli.options import check_output
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.eval.judging.judge import Judge
    from onevision.eval.judging.panel import Panel


def gate(
    mixture: Annotated[
        Path, typer.Argument(help="Records of any form that `data` reads, or a mixture.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of what is kept.")],
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            help="length=20-400, language=en, words=FILE, duplicates, duplicates=DATA, leaks=DATA "
            "(evaluation data), blind=MODEL, rating=3 (with --judge); repeatable, in this order.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Model that rates: 'tiny', a checkpoint directory or hub id, run here; or the URL "
            "of an OpenAI-compatible endpoint."
        ),
    ] = None,
    judge_model: JudgeModelOption = None,
    judge_prices: JudgePricesOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Where media paths start; default: the records' folder.")
    ] = None,
) -> None:
    """Leave out records that are too short, repeated, leaked or answerable without the picture."""
    from onevision.curate.gates.apply import UNREADABLE, apply_gates
    from onevision.curate.gates.choose import parse_gates
    from onevision.curate.gates.rating import RatingGate
    from onevision.data.mixture import open_mixture

    check_output(output, directory=True)
    _check_input_stays(mixture, output)
    panels: list[Panel] = []

    def open_judge() -> "Judge":
        assert judge is not None, "it is asked for only if there is one"
        panel = open_panel([judge], output, model=judge_model, prices=judge_prices, rounds=1)
        panels.append(panel)
        return panel.judges[0]

    chosen = parse_gates(gates or [], judge=open_judge if judge is not None else None)
    opened = open_mixture(mixture, roots=[root] if root else [])
    summary = apply_gates(opened, chosen, output)
    print(
        f"{summary.num_kept:,} of {counted(summary.num_records, 'record')} kept: "
        f"{output / 'mixture.yaml'}"
    )
    for name, count in summary.marked.most_common():
        first = name == UNREADABLE and f"; the first: {summary.first_problem}"
        print(f"  {name}: {count:,} left out{first or ''}")
    for one in chosen:
        if isinstance(one, RatingGate):
            print(one.stability)
    for panel in panels:
        print_usage(panel)


def _check_input_stays(mixture: Path, output: Path) -> None:
    """Raises InputError if the kept records would replace those that are read."""
    from onevision.errors import InputError

    if output.resolve() in (mixture.resolve(), mixture.resolve().parent):
        raise InputError(
            f"{mixture}: it lies in --output, where the kept records would replace it; give "
            "another --output"
        )
