"""`onevision science`: three claims of the paper in miniature, run by run; see docs/science.md."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onevision.science.study import Study
    from onevision.science.trials import Trial


def science(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the runs.")] = Path(
        "runs/science"
    ),
    only: Annotated[
        str | None, typer.Option(help="One claim: stages, transfer or resolution.")
    ] = None,
    list_runs: Annotated[
        bool, typer.Option("--list", help="Name the runs, and which are finished.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the page from the raw numbers alone.")
    ] = False,
    rehearse: Annotated[
        bool, typer.Option(help="Every run on 16 samples: does it work from end to end?")
    ] = False,
    docs: Annotated[
        Path | None,
        typer.Option(help="Where science.md and science/ lie; default docs, OUTPUT if rehearsed."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, one thread each.", min=1)] = 2,
) -> None:
    """Train and ask what the claims need, skip what is finished, and write the page."""
    from onevision.science.page import read_records, renewed, write_page, write_records
    from onevision.science.study import Study, carry_out_all
    from onevision.science.trials import all_trials, needed

    place = docs or (output if rehearse else Path("docs"))
    study, every = Study(output=output, rehearsal=rehearse), all_trials(rehearsal=rehearse)
    trials = every if only is None else needed(every, only)
    if list_runs:
        _list(study, trials)
        return
    if not report:
        if not carry_out_all(study, trials, jobs=jobs, tell=_tell):
            print(f"stopped; run the same command again to go on ({output})")
            raise typer.Exit(130)
        done = [study.record(trial) for trial in every if study.finished(trial)]
        write_records(renewed(read_records(place), done), place)
    print(f"wrote {write_page(place)}")


def _list(study: "Study", trials: "tuple[Trial, ...]") -> None:
    for trial in trials:
        state = "finished" if study.finished(trial) else "to do"
        print(f"{trial.name:<24} {trial.stage.num_samples:>7,} samples  {state}")


def _tell(said: str, trial: "Trial") -> None:
    print(f"{said:<9} {trial.name}", flush=True)
