"""The configuration of a run -> the run, shown on the terminal, and the command's exit code."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.config import TrainConfig
    from onevision.train.objectives.objective import ObjectiveMaker
    from onevision.train.start import Starts


def train_and_show(
    config: "TrainConfig",
    tokenizer: "Tokenizer",
    starts: "Starts",
    output: Path,
    *,
    make_objective: "ObjectiveMaker | None" = None,
    allow_change: Sequence[str] = (),
    tensorboard: bool = False,
    wandb: str | None = None,
) -> None:
    """Runs to the end, or exits if it is stopped; by default it learns what the settings name."""
    from rich.console import Console

    from onevision.accelerate.threads import choose_threads
    from onevision.train.objectives.table import make_objective as from_table
    from onevision.train.parallel import leave_processes
    from onevision.train.report.display import ProgressDisplay
    from onevision.train.report.journal import Callbacks
    from onevision.train.run import run_stage

    console = Console(stderr=True)
    if int(os.environ.get("RANK", "0")) == 0:
        options = config.options
        count = choose_threads() if options.device == "cpu" else 0
        threads = f", {counted(count, 'thread')}" if count else ""
        console.print(
            f"device {options.device}, precision {options.precision}{threads}", markup=False
        )
    with ProgressDisplay(console) as display:
        result = run_stage(
            config,
            tokenizer=tokenizer,
            starts=starts,
            output=output,
            make_objective=make_objective or from_table,
            allow_change=allow_change,
            callbacks=Callbacks(
                on_step=display.show,
                on_evaluation=display.show_evaluation,
                on_validation=display.show_validation,
                on_warning=lambda text: console.print(
                    f"warning: {text}", soft_wrap=True, markup=False
                ),
                tensorboard=tensorboard,
                wandb=wandb,
            ),
        )
    leave_processes()
    if int(os.environ.get("RANK", "0")) > 0:
        sys.exit(result.exit_code)  # torchrun's first process speaks for all
    if result.checkpoint is None:
        console.print(f"stopped; run the same command again to resume ({output})", markup=False)
        sys.exit(result.exit_code)
    print(f"wrote {result.checkpoint}")


def train_in_processes(config: "TrainConfig", output: Path, *, count: int) -> None:
    """Runs a stage in so many processes of this machine, or exits as they do.

    They read the settings from the run's directory. Raises ConfigError if it cannot be written.
    """
    from onevision.train.config import write_train_config
    from onevision.train.directory import RunDirectory

    write_train_config(config, RunDirectory(output).settings)
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}")
    worker = ("-m", "onevision.cli.training.worker", str(output))
    done = subprocess.run([sys.executable, *launcher, *worker], check=False)
    if done.returncode:
        sys.exit(done.returncode)
