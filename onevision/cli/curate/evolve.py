"""`onevision curate evolve`: prompts made harder and rarer in rounds, and their answers."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.curate import writers
from onevision.cli.options import DeviceOption, DtypeOption, check_output


def evolve(
    prompts: Annotated[Path, typer.Argument(help="Records with a prompt, or an instruction.")],
    output: writers.OutputOption,
    writer: writers.WriterOption,
    rounds: Annotated[int, typer.Option(help="How often prompts are rewritten; 0: never.")] = 3,
    own_prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="A directory of prompt files in place of the package's."),
    ] = None,
    writer_model: writers.WriterModelOption = None,
    writer_prices: writers.PricesOption = None,
    parallel: writers.ParallelOption = 4,
    attempts: writers.AttemptsOption = 8,
    timeout: writers.TimeoutOption = 120.0,
    max_rows: writers.MaxRowsOption = None,
    max_money: writers.MaxMoneyOption = None,
    max_errors: writers.MaxErrorsOption = 20,
    seed: writers.SeedOption = 0,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
) -> None:
    """Rewrite prompts in depth and in breadth, and answer them, as Evol-Instruct does."""
    from onevision.curate.budget import Limits
    from onevision.curate.evolve import EVOLVE_PROMPTS, read_seeds
    from onevision.curate.evolve_rounds import EvolveConfig
    from onevision.curate.evolve_rounds import evolve as run_rounds
    from onevision.data.sources import open_source

    check_output(output, directory=True)
    limits = Limits(max_rows=max_rows, max_money=max_money, max_errors=max_errors)
    config = EvolveConfig(num_rounds=rounds, seed=seed, prompts=own_prompts or EVOLVE_PROMPTS)
    prices = writers.parse_prices(writer_prices)
    seeds = read_seeds(open_source(prompts))
    model = writers.open_writer(
        writer, model=writer_model, prices=prices, parallel=parallel, attempts=attempts,
        timeout=timeout, device=device, dtype=dtype,
    )  # fmt: skip
    result = run_rounds(
        seeds,
        model,
        output,
        config=config,
        limits=limits,
        prices=prices,
        on_progress=writers.progress(),
        on_round=lambda one: print(
            f"{one.summary.job}: {one.summary.num_kept:,} rewritten, "
            f"{one.summary.num_refused:,} eliminated"
        ),
    )
    writers.print_result(result, output, has_prices=prices is not None)
