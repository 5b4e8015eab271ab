"""`onevision curate`: its commands; here instruct."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.curate import writers
from onevision.cli.curate.ablate import ablate
from onevision.cli.curate.balance import balance
from onevision.cli.curate.documents import documents
from onevision.cli.curate.evolve import evolve
from onevision.cli.curate.gate import gate
from onevision.cli.curate.improve import improve
from onevision.cli.curate.recaption import recaption
from onevision.cli.curate.report import report
from onevision.cli.options import DeviceOption, DtypeOption, check_output

curate = typer.Typer(
    help="Make training data with models.", no_args_is_help=True, add_completion=False
)
curate.command()(recaption)
curate.command()(balance)
curate.command()(gate)
curate.command()(evolve)
curate.command()(documents)
curate.command()(improve)
curate.command()(ablate)
curate.command()(report)


@curate.command()
def instruct(
    captions: Annotated[
        Path,
        typer.Argument(help="Records with image, captions and boxes; or COCO's captions file."),
    ],
    output: writers.OutputOption,
    writer: writers.WriterOption,
    kinds: Annotated[
        str, typer.Option(help="Of conversation, detail and reasoning.")
    ] = "conversation,detail,reasoning",
    instances: Annotated[
        Path | None, typer.Option(help="COCO's instances file, for boxes.")
    ] = None,
    root: writers.RootOption = None,
    prompts: writers.PromptsOption = None,
    writer_model: writers.WriterModelOption = None,
    writer_prices: writers.PricesOption = None,
    parallel: writers.ParallelOption = 4,
    attempts: writers.AttemptsOption = 8,
    timeout: writers.TimeoutOption = 120.0,
    max_rows: writers.MaxRowsOption = None,
    max_money: writers.MaxMoneyOption = None,
    max_errors: writers.MaxErrorsOption = 20,
    seed: writers.SeedOption = 0,
    plan: writers.PlanOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
) -> None:
    """Let a text model write instruction data from captions and boxes, as for LLaVA."""
    from dataclasses import replace

    from onevision.curate.budget import Limits
    from onevision.curate.captions import open_captions
    from onevision.curate.instruct import INSTRUCT_PROMPTS, InstructJob, parse_kinds

    check_output(output, directory=True)
    limits = Limits(max_rows=max_rows, max_money=max_money, max_errors=max_errors)
    chosen, prices = parse_kinds(kinds), writers.parse_prices(writer_prices)
    source = open_captions(captions, instances=instances, root=root)
    job = InstructJob(
        source=source, kinds=chosen, writer="", seed=seed, prompts=prompts or INSTRUCT_PROMPTS
    )
    if plan:
        writers.show_plan(job, output, parallel=parallel, prices=prices)
        return
    model = writers.open_writer(
        writer, model=writer_model, prices=prices, parallel=parallel, attempts=attempts,
        timeout=timeout, device=device, dtype=dtype,
    )  # fmt: skip
    job = replace(job, writer=model.identity)
    writers.run_and_show(job, model, output, limits=limits, prices=prices)
