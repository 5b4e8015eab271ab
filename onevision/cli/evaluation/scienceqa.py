"""`onevision scienceqa`: ScienceQA as training data, and two models that answer it together."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from onevision.cli.evaluation.judges import (
    JudgeModelOption,
    JudgePricesOption,
    open_panel,
    print_usage,
    refuse_judge_options,
)
from onevision.cli.options import DeviceOption, DtypeOption, check_output
from onevision.errors import InputError
from onevision.plural import counted

scienceqa = typer.Typer(no_args_is_help=True, help="ScienceQA: training data, and ensembles.")
OutOption = Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")]


@scienceqa.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="The release's folder, or a Parquet or JSON file of its rows.")
    ],
    output: OutOption,
    split: Annotated[str, typer.Option(help="train, val, test, minitrain, ...")] = "train",
    form: Annotated[
        str, typer.Option(help="QCM-LEA: explain, then answer. QCM-A: answer alone.")
    ] = "QCM-LEA",
) -> None:
    """Write training records in LLaVA's format, with their pictures."""
    from onevision.eval.science_qa import Form, convert_science_qa

    check_output(output, directory=True)
    for known in get_args(Form):
        if form == known:
            made = convert_science_qa(source, output, split=split, form=known)
            records = counted(made.num_records, "record")
            print(f"{made.path}: {records}, {made.num_images} with a picture")
            return
    raise InputError(f"--form is {form!r}; expected one of {', '.join(get_args(Form))}")


@scienceqa.command()
def ensemble(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="--output folder of `onevision eval`.")],
    output: OutOption,
    judge: Annotated[
        str, typer.Option(help="The text model: 'tiny', a checkpoint, or an endpoint's URL.")
    ],
    rule: Annotated[
        str,
        typer.Option(
            help="complement: its answer, or ours if it has none. "
            "arbitrate: it decides where both differ."
        ),
    ] = "arbitrate",
    judge_model: JudgeModelOption = None,
    judge_prices: JudgePricesOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
) -> None:
    """Combine a run's ScienceQA answers with those of a text model that sees no image."""
    from onevision.cli.evaluation.benchmarks import print_result
    from onevision.eval.answers import AnswerFiles
    from onevision.eval.compare import find_runs
    from onevision.eval.ensemble import Rule, combine_runs, is_science_qa

    refuse_judge_options(context, [judge])
    rules = {known: known for known in get_args(Rule)}
    if rule not in rules:
        raise InputError(f"--rule is {rule!r}; expected one of {', '.join(rules)}")
    check_output(output, directory=True)
    runs = {name: files for name, files in find_runs(run).items() if is_science_qa(files)}
    if not runs:
        raise InputError(
            f"{run}: no answers to ScienceQA; run onevision eval --tasks scienceqa_img"
        )
    panel = open_panel(
        [judge], output, model=judge_model, prices=judge_prices, rounds=1,
        device=device, dtype=dtype,
    )  # fmt: skip
    for name, files in runs.items():
        made = combine_runs(files, AnswerFiles(output / name), panel.judges[0], rules[rule])
        print_result(made.result)
        print(
            f"    the text model answered {made.num_known} of {made.result.num_answers} by itself, "
            f"and decided {made.num_disputed}; {made.num_unreadable} replies are no letter"
        )
    print_usage(panel)
