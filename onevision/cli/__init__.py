"""The command line, one file per command; only this package prints and sets exit codes.

Commands import what they need when they run, so that `onevision --help` starts quickly.
"""

import os
import sys
from typing import Annotated

import typer

from onevision import __version__
from onevision.cli.ask import ask
from onevision.cli.batch import batch
from onevision.cli.cache import list_models, pull, remove
from onevision.cli.chat import chat
from onevision.cli.convert import convert
from onevision.cli.curate.commands import curate
from onevision.cli.data.commands import data
from onevision.cli.demo import demo
from onevision.cli.dequantize import dequantize
from onevision.cli.doctor import doctor
from onevision.cli.evaluation.capabilities import capabilities
from onevision.cli.evaluation.evaluate import evaluate
from onevision.cli.evaluation.judge import judge
from onevision.cli.evaluation.probe import probe
from onevision.cli.evaluation.report import report
from onevision.cli.evaluation.scienceqa import scienceqa
from onevision.cli.explain import explain
from onevision.cli.models import models
from onevision.cli.quantize import quantize
from onevision.cli.science import science
from onevision.cli.serve import serve
from onevision.cli.synth import synth
from onevision.cli.training.dpo import dpo
from onevision.cli.training.finetune import finetune
from onevision.cli.training.prefer import prefer
from onevision.cli.training.reinforce import reinforce
from onevision.cli.training.teach import teach
from onevision.cli.training.train import train
from onevision.cli.unpickle import unpickle
from onevision.errors import OneVisionError

app = typer.Typer(
    name="onevision",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(ask)
app.command()(chat)
app.command()(explain)
app.command()(convert)
app.command()(quantize)
app.command()(unpickle)
app.command()(dequantize)
app.command()(models)
app.command()(pull)
app.command(name="list")(list_models)
app.command()(remove)
app.command()(demo)
app.command()(doctor)
app.command()(finetune)
app.command()(train)
app.command()(dpo)
app.command()(prefer)
app.command()(reinforce)
app.command(name="eval")(evaluate)
app.command()(judge)
app.command()(report)
app.command()(probe)
app.command()(capabilities)
app.command()(teach)
app.command()(science)
app.command()(serve)
app.command()(batch)
app.add_typer(data, name="data")
app.add_typer(synth, name="synth")
app.add_typer(curate, name="curate")
app.add_typer(scienceqa, name="scienceqa")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"onevision {__version__}")
        raise typer.Exit


@app.callback()
def set_options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """LLaVA-OneVision: ask, train, evaluate and serve one model for images and videos."""


def main() -> None:
    """Run the command line; expected errors are one line on stderr and exit code 1."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a full disk can still be reported
    except OneVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the process that reads our output has exited
        _discard_output()
        sys.exit(1)
    except OSError as error:
        place = error.filename or "the output"
        print(f"error: {place}: cannot be read or written ({error.strerror})", file=sys.stderr)
        _discard_output()
        sys.exit(1)


def _discard_output() -> None:
    """Drops what is still to be printed, so that the exit does not fail on it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
