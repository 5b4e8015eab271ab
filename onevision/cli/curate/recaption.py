"""`onevision curate recaption`: pictures described in detail, here or on a Ray cluster."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.curate import writers
from onevision.cli.options import DeviceOption, DtypeOption, check_output, refuse_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from onevision.curate.recaption import RecaptionJob
    from onevision.curate.shards.split import Cluster, Shard
    from onevision.curate.writer import Writer
    from onevision.files import Line

# Options that count over a whole job, which shards cannot, or that folders of pictures lack.
OF_ONE_PROCESS = {"max_rows", "max_money", "root"}
OF_RAY = {"workers", "gpus", "shard_size"}
CaptionerOption = Annotated[
    str,
    typer.Option(
        help="The model that describes: 'tiny', a checkpoint directory or a hub id, run here; "
        "or the URL of an OpenAI-compatible endpoint."
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster's address, 'auto', or 'local': pictures in shards, Parquet out."
    ),
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Workers on Ray, or of a plan.")]
GpusOption = Annotated[float, typer.Option(min=0, help="GPUs of each worker on Ray.")]
ShardSizeOption = Annotated[
    int, typer.Option(min=1, help="Pictures of a shard, where a folder is cut for Ray.")
]


def recaption(
    context: typer.Context,
    pictures: writers.PicturesArgument,
    output: writers.OutputOption,
    captioner: CaptionerOption = "tiny",
    language: writers.LanguageOption = "en",
    root: writers.RootOption = None,
    prompts: writers.PromptsOption = None,
    writer_model: writers.WriterModelOption = None,
    writer_prices: writers.PricesOption = None,
    parallel: writers.ParallelOption = 8,
    attempts: writers.AttemptsOption = 8,
    timeout: writers.TimeoutOption = 120.0,
    max_rows: writers.MaxRowsOption = None,
    max_money: writers.MaxMoneyOption = None,
    max_errors: writers.MaxErrorsOption = 20,
    seed: writers.SeedOption = 0,
    plan: writers.PlanOption = False,
    ray: RayOption = None,
    workers: WorkersOption = 1,
    gpus: GpusOption = 0.0,
    shard_size: ShardSizeOption = 1000,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
) -> None:
    """Let a model describe pictures in detail, for the knowledge stage."""
    from dataclasses import replace

    from onevision.curate.budget import Limits
    from onevision.curate.recaption import RECAPTION_PROMPTS, RecaptionJob, open_pictures
    from onevision.curate.shards.split import Cluster, split

    check_output(output, directory=True)
    prices = writers.parse_prices(writer_prices)
    limits = Limits(max_rows=max_rows, max_money=max_money, max_errors=max_errors)
    if not plan:
        idle, use = (OF_RAY, "without") if ray is None else (OF_ONE_PROCESS, "with")
        refuse_options(context, idle, use=f"a run {use} --ray")
    shards = [] if ray is None else split(pictures, shard_size=shard_size)
    job = RecaptionJob(
        sources=[one.open() for one in shards] or open_pictures(pictures, root=root),
        language=language,
        writer="",
        seed=seed,
        prompts=prompts or RECAPTION_PROMPTS,
        embedded=ray is not None,
    )
    open_model = partial(
        writers.open_writer, captioner, model=writer_model, prices=prices, parallel=parallel,
        attempts=attempts, timeout=timeout, device=device, dtype=dtype,
    )  # fmt: skip
    if plan:
        writers.show_plan(job, output, parallel=parallel, prices=prices, workers=workers)
    elif ray is not None:
        cluster = Cluster(address=ray, num_workers=workers, gpus_each=gpus)
        _run_on_ray(shards, open_model, job, output, cluster=cluster, max_errors=max_errors)
    else:
        model = open_model()
        job = replace(job, writer=model.identity)
        writers.run_and_show(job, model, output, limits=limits, prices=prices)


def _run_on_ray(
    shards: "list[Shard]",
    open_model: "Callable[[], Writer]",
    job: "RecaptionJob",
    output: Path,
    *,
    cluster: "Cluster",
    max_errors: int,
) -> None:
    """Describes all shards on a cluster; exits with 1 if some are not whole."""
    from onevision.curate.shards.ray_run import run_on_ray
    from onevision.curate.shards.worker import ShardSettings

    settings = ShardSettings(
        output=output.resolve(),
        language=job.language,
        seed=job.seed,
        prompts=job.prompts,
        max_errors=max_errors,
    )
    summary = run_on_ray(shards, open_model, settings, cluster=cluster, on_shard=_show)
    print(f"{summary['num_kept']:,} records in {len(shards):,} shards: {output / 'mixture.yaml'}")
    print(f"{summary['num_refused']:,} refused, each with its reason in shards/*/provenance.jsonl")
    if summary["num_left"]:
        reasons = "; ".join(map(str, summary["stopped"])) or "some queries failed"
        print(
            f"stopped: {reasons}. {summary['num_left']:,} tasks are left; run it again to continue "
            "with them",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def _show(line: "Line") -> None:
    if sys.stderr.isatty():
        print(f"{line['shard']}: {line['num_kept']} kept", file=sys.stderr)
