"""`onevision science`: three claims of the paper in miniature; see docs/science.md."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import refuse_options

if TYPE_CHECKING:
    from onevision.science.study import Study
    from onevision.science.trials import Trial


def science(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the runs.")] = Path(
        "runs/science"
    ),
    only: Annotated[
        str | None, typer.Option(help="One claim: stages, transfer or resolution.")
    ] = None,
    list_runs: Annotated[
        bool, typer.Option("--list", help="List the runs and which are finished.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the page, from the raw numbers.")
    ] = False,
    rehearse: Annotated[
        bool, typer.Option(help="Do every run on 16 samples, to see that it works.")
    ] = False,
    docs: Annotated[
        Path | None,
        typer.Option(
            help="Directory of science.md and science/; default docs, or OUTPUT with --rehearse."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs side by side, with one thread each.", min=1)] = 2,
) -> None:
    """Run the trials that the claims need, skip what is finished, and write the page."""
    from onevision.science.page import read_records, replace_records, write_page, write_records
    from onevision.science.study import Study, run_trials
    from onevision.science.trials import all_trials, trials_for_claim

    if list_runs:
        refuse_options(context, {"report", "docs", "jobs"}, use="the list of the runs")
    if report:
        idle = {"only", "jobs"} if rehearse and docs is None else {"only", "jobs", "output"}
        refuse_options(context, idle, use="the page, which shows every claim")
    place = docs or (output if rehearse else Path("docs"))
    study, every = Study(output=output, rehearsal=rehearse), all_trials(rehearsal=rehearse)
    trials = every if only is None else trials_for_claim(every, only)
    if list_runs:
        _list(study, trials)
        return
    if not report:
        if not run_trials(study, trials, jobs=jobs, on_event=_print_event):
            print(f"interrupted; run the same command again to resume ({output})")
            raise typer.Exit(130)
        done = [study.record(trial) for trial in every if study.is_finished(trial)]
        write_records(replace_records(read_records(place), done), place)
    page = write_page(place, warn=lambda text: print(text, file=sys.stderr))
    print(f"wrote {page}")


def _list(study: "Study", trials: "tuple[Trial, ...]") -> None:
    for trial in trials:
        state = "finished" if study.is_finished(trial) else "to do"
        print(f"{trial.name:<24} {trial.stage.num_samples:>7,} samples  {state}")


def _print_event(event: str, trial: "Trial") -> None:
    print(f"{event:<9} {trial.name}", flush=True)
