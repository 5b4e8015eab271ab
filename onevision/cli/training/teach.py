"""`onevision teach`: the two arms of each emerging capability; see docs/capabilities.md."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import refuse_options
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.science.study import Study
    from onevision.science.trials import Trial


def teach(
    context: typer.Context,
    capability: Annotated[
        list[str] | None, typer.Argument(help="S1 to S9; by default all nine.")
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="transfer (its parts alone) or taught (its world, too); default both."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="A seed; repeatable. Default 0, 1 and 2.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", help="The model that both arms begin with.")
    ] = "tiny",
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the runs.")] = Path(
        "runs/capabilities"
    ),
    docs: Annotated[
        Path | None,
        typer.Option(help="Directory of capabilities/trials.json; default docs, or OUTPUT."),
    ] = None,
    rehearse: Annotated[
        bool, typer.Option(help="Do every run on 16 samples, to see that it works.")
    ] = False,
    list_runs: Annotated[
        bool, typer.Option("--list", help="List the runs and which are finished.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Runs side by side, with one thread each.", min=1)] = 2,
) -> None:
    """Train the arms of capabilities, ask each its held-out questions, skip what is finished."""
    from onevision.science.capabilities.study import check_records, open_study, record_trials
    from onevision.science.study import run_trials

    if list_runs:
        refuse_options(context, {"docs", "jobs"}, use="the list of the runs")
    if any(one < 0 for one in seed or ()):
        raise InputError(f"--seed is {min(seed or ())}; expected 0 or more")
    study, trials = open_study(
        output, capability or [], start=start, arms=arm or [], seeds=seed, rehearsal=rehearse
    )
    if list_runs:
        _list(study, trials)
        return
    place = docs or (output if rehearse else Path("docs"))
    check_records(study, place)  # before hours of training
    if not run_trials(study, trials, jobs=jobs, on_event=_print_event):
        print(f"interrupted; run the same command again to resume ({output})", file=sys.stderr)
        raise typer.Exit(130)
    print(f"wrote {record_trials(study, trials, place)}")


def _list(study: "Study", trials: "tuple[Trial, ...]") -> None:
    for trial in trials:
        state = "finished" if study.is_finished(trial) else "to do"
        print(f"{trial.name:<24} {trial.stage.num_samples:>7,} samples  {state}")


def _print_event(event: str, trial: "Trial") -> None:
    print(f"{event:<9} {trial.name}", flush=True)
