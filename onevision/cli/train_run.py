"""Settings of a run -> the run, shown on the terminal, and how the command ends."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.run import FeedMaker, Run
    from onevision.train.settings import Settings
    from onevision.train.start import Starts


def carry_out(
    told: "Settings",
    words: "Tokenizer",
    starts: "Starts",
    output: Path,
    *,
    make_feed: "FeedMaker",
    allow_change: Sequence[str],
    tensorboard: bool,
    wandb: str | None,
    kind: "type[Run] | None" = None,
) -> None:
    """Run to the end, or until somebody stops it; `kind` is as in `run_stage`."""
    from rich.console import Console

    from onevision.train.parallel import leave_processes
    from onevision.train.report.display import ProgressDisplay
    from onevision.train.report.journal import Reports
    from onevision.train.run import run_stage

    console = Console(stderr=True)
    with ProgressDisplay(console) as display:
        outcome = run_stage(
            told,
            tokenizer=words,
            starts=starts,
            output=output,
            make_feed=make_feed,
            allow_change=allow_change,
            reports=Reports(
                step=display.show,
                evaluation=display.show_evaluation,
                warn=lambda text: console.print(f"warning: {text}", soft_wrap=True, markup=False),
                tensorboard=tensorboard,
                wandb=wandb,
            ),
            kind=kind,
        )
    leave_processes()
    if int(os.environ.get("RANK", "0")) > 0:
        sys.exit(outcome.exit_code)  # torchrun's first process speaks for all
    if outcome.checkpoint is None:
        console.print(f"stopped; run the same command again to go on ({output})", markup=False)
        sys.exit(outcome.exit_code)
    print(f"wrote {outcome.checkpoint}")
