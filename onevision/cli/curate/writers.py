"""The options that name a writer and limit what it may do; the job they start, shown on screen."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from onevision.cli.options import is_address
from onevision.errors import ConfigError, InputError
from onevision.plural import counted
from onevision.values import name_closest

if TYPE_CHECKING:
    from onevision.curate.budget import Limits, Prices
    from onevision.curate.job import JobResult, Progress
    from onevision.curate.task import Job
    from onevision.curate.writer import Writer

OutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="Directory of the records; a stopped job resumes there."),
]
PicturesArgument = Annotated[
    Path, typer.Argument(help="A folder of pictures, a mixture, or a file of records.")
]
LanguageOption = Annotated[Literal["en", "zh"], typer.Option(help="Of the descriptions.")]
RootOption = Annotated[
    Path | None,
    typer.Option(help="Where paths of pictures start; default: the folder of the records."),
]
PromptsOption = Annotated[
    Path | None, typer.Option(help="A directory of prompt files in place of the package's.")
]
PlanOption = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Print tasks, tokens, hours and money, and ask nothing; measured if --output has "
        "replies.",
    ),
]
WriterOption = Annotated[
    str,
    typer.Option(
        help="The model that writes: the URL of an OpenAI-compatible endpoint; or 'tiny', a "
        "checkpoint directory or a hub id, run here."
    ),
]
WriterModelOption = Annotated[
    str | None,
    typer.Option(
        help="The endpoint's name for the model; default ONEVISION_WRITER_MODEL, or the only one."
    ),
]
PricesOption = Annotated[
    str | None, typer.Option(help="Price per million tokens in and out, such as 2.5,10.")
]
ParallelOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Queries in flight, or tasks of a batch.")
]
AttemptsOption = Annotated[
    int, typer.Option(min=1, help="Attempts at a query that fails; waits double up to a minute.")
]
TimeoutOption = Annotated[
    float, typer.Option(help="Seconds without data after which a query is sent again.")
]
MaxRowsOption = Annotated[
    int | None, typer.Option(help="Stop after so many tasks, in the order of the input.")
]
MaxMoneyOption = Annotated[
    float | None,
    typer.Option(help="Never spend more than this, earlier runs included; needs prices."),
]
MaxErrorsOption = Annotated[
    int, typer.Option(help="Stop once more queries than this have failed after all attempts.")
]
SeedOption = Annotated[int, typer.Option(help="Another seed gives other replies.")]
CLEAR = "\r\x1b[K"


def open_writer(
    name: str,
    *,
    model: str | None,
    prices: "Prices | None",
    parallel: int,
    attempts: int = 8,
    timeout: float = 120.0,
    device: str = "cpu",
    dtype: str = "auto",
) -> "Writer":
    """Open an endpoint, or load a model. Raises InputError, ConfigError, EndpointError."""
    if not is_address(name):
        if model is not None:
            raise InputError(f"--writer-model goes with a URL, but the model is {name!r}")
        from onevision.curate.local_writer import open_local

        return open_local(name, device=device, dtype=dtype, at_once=parallel)
    from dataclasses import replace

    from onevision.curate.writer import EndpointWriter
    from onevision.endpoint import EndpointConfig, list_models

    known = model or os.environ.get("ONEVISION_WRITER_MODEL")
    settings = {**os.environ, "ONEVISION_WRITER_MODEL": known or "?"}
    config = replace(
        EndpointConfig.from_environment(settings, role="writer", base_url=name),
        num_parallel=parallel,
        max_attempts=attempts,
        timeout_seconds=timeout,
        price_in=prices.per_million_in if prices else None,
        price_out=prices.per_million_out if prices else None,
    )
    if known is None:
        served = list_models(config)
        if len(served) != 1:
            hint = name_closest("", served)
            raise InputError(
                f"{name} serves {counted(len(served), 'model')}; name one with --writer-model{hint}"
            )
        config = replace(config, model=served[0])
    return EndpointWriter(config)


def parse_prices(text: str | None) -> "Prices | None":
    """Parse --writer-prices, or ONEVISION_WRITER_PRICES. Raises ConfigError."""
    from onevision.curate.budget import Prices

    text = text or os.environ.get("ONEVISION_WRITER_PRICES")
    if text is None:
        return None
    try:
        price_in, price_out = map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--writer-prices is {text!r}; expected two numbers, as in 2.5,10"
        ) from error
    if not (price_in >= 0 and price_out >= 0):
        raise ConfigError(f"--writer-prices is {text!r}; expected numbers of 0 or more")
    return Prices(per_million_in=price_in, per_million_out=price_out)


def run_and_show(
    job: "Job", writer: "Writer", output: Path, *, limits: "Limits", prices: "Prices | None"
) -> None:
    """Run a job with a line of progress; print what it made; exit with 1 if it had to stop."""
    from onevision.curate.job import run_job

    result = run_job(job, writer, output, limits=limits, prices=prices, on_progress=progress())
    print_result(result, output, has_prices=prices is not None)


def show_plan(
    job: "Job", output: Path, *, parallel: int, prices: "Prices | None", workers: int = 1
) -> None:
    """Print what a job will take."""
    from onevision.curate.plan import plan_job

    plan = plan_job(job, output, num_parallel=parallel, num_workers=workers, prices=prices)
    print(f"{plan.num_tasks:,} tasks of {plan.num_items:,} in the input")
    most = "" if plan.is_measured else "at most "
    print(
        f"{most}{plan.prompt_tokens:,.0f} tokens in, {most}{plan.completion_tokens:,.0f} out"
        + ("" if plan.money is None else f", {most}{plan.money:,.4g} in money")
    )
    side_by_side = f"{workers:,} x {parallel:,} queries at a time"
    if plan.hours is None:
        print(
            f"hours: unknown; run it with --max-rows 20 first, and --plan measures its replies "
            f"({side_by_side})"
        )
    else:
        took = format_seconds(plan.hours * 3600)
        print(f"{took} with {side_by_side}, from {plan.num_replies:,} replies")


def progress() -> "Callable[[Progress], object]":
    """Return what shows progress on a terminal, and nothing elsewhere."""
    return _show if sys.stderr.isatty() else str


def _show(progress: "Progress") -> None:
    left = "?" if progress.seconds_left is None else format_seconds(progress.seconds_left)
    money = f", {progress.money:.4g} spent" if progress.money else ""
    failed = f", {progress.num_errors} failed" if progress.num_errors else ""
    print(
        f"{CLEAR}{progress.num_done:,} of {progress.num_items:,}, {left} left{money}{failed}",
        end="",
        file=sys.stderr,
        flush=True,
    )


def format_seconds(seconds: float) -> str:
    """Format a duration as "3 h 12 min", "4 min 5 s" or "6 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_result(result: "JobResult", output: Path, *, has_prices: bool) -> None:
    """Print what a job made; exit with 1 if it had to stop, with 0 if it was to stop."""
    if sys.stderr.isatty():
        print(CLEAR, end="", file=sys.stderr, flush=True)
    summary = result.summary
    print(f"{counted(summary.num_kept, 'record')}: {output / 'mixture.yaml'}")
    for kind, count in sorted(summary.kept.items()):
        print(f"  {kind}: {count:,}")
    if summary.num_refused:
        print(f"{summary.num_refused:,} refused, each with its reason in provenance.jsonl")
        for reason, count in summary.refused.most_common():
            first = summary.first_details.get(reason)
            print(f"  {reason}: {count:,}" + (f"; the first: {first}" if first else ""))
    money = f", {summary.money:.4g} spent" if has_prices else ""
    print(
        f"{summary.prompt_tokens:,} tokens in, {summary.completion_tokens:,} out, "
        f"{summary.num_asked_again:,} asked again{money}"
    )
    if result.stopped is None and not summary.num_left:
        return
    reason = result.stopped or "some tasks have no reply"
    print(
        f"stopped: {reason}. {summary.num_left:,} of {summary.num_items:,} tasks are left; run it "
        "again to continue with them",
        file=sys.stderr,
    )
    raise typer.Exit(0 if result.within_limits else 1)
