"""Plans a mixture, with a progress bar on a terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.data.plan import Plan
    from onevision.data.samples import SampleReader


def plan_and_show(
    reader: "SampleReader", *, num_workers: int, deep: bool = False, fresh: bool = False
) -> "Plan":
    """Plans every sample of the reader's mixture; the options are those of `make_plan`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from onevision.data.planner import make_plan
    from onevision.data.remote.traffic import describe_shards

    for line in describe_shards(reader.mixture):
        print(line)
    columns = (TextColumn("planning"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    quiet = not terminal.is_terminal
    with Progress(*columns, console=terminal, transient=True, disable=quiet) as progress:
        task = progress.add_task("planning", total=len(reader.mixture))
        return make_plan(
            reader,
            deep=deep,
            fresh=fresh,
            num_workers=num_workers,
            progress=lambda rows: progress.advance(task, rows),
        )
