"""`onevision train --plan`: steps, tokens, operations, memory, hours and dollars of a stage."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.config import ModelConfig
    from onevision.inputs.processor import Processor
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.cost.amounts import Amount
    from onevision.train.cost.tables import Table as CostTable
    from onevision.train.options import RunOptions
    from onevision.train.stage import Stage


def print_plan(
    stage: "Stage",
    target: "ModelConfig",
    tokenizer: "Tokenizer | None",
    options: "RunOptions",
    *,
    devices: int,
    kind: str,
    price: float | None,
) -> None:
    """Prints the plan of a stage on a number of devices; no weights are needed."""
    from onevision.train.config import TrainConfig
    from onevision.train.cost.amounts import without_held_out
    from onevision.train.cost.devices import get_device_kind
    from onevision.train.cost.memory import count_shards
    from onevision.train.cost.plan import plan_training
    from onevision.train.cost.tables import tables
    from onevision.train.tensor.rules import check_division

    check_division(TrainConfig(stage=stage, target=target, options=options), num_devices=devices)
    plan = plan_training(
        stage,
        target,
        without_held_out(_amounts(stage, target, tokenizer, options), options.held_out),
        kind=get_device_kind(kind, price_per_hour=price),
        num_devices=devices,
        shards=count_shards(options, num_devices=devices),
        precision=options.precision,
        context=options.context,
        tensor=options.tensor,
        recompute=options.recompute,
        lora=options.lora,
        offload=options.offload,
    )
    for table in tables(plan):
        print_table(table)


def _amounts(
    stage: "Stage", target: "ModelConfig", tokenizer: "Tokenizer | None", options: "RunOptions"
) -> "tuple[Amount, ...]":
    """Counts what the stage reads; simulates a published mixture without its data."""
    from onevision.data.mixture import published_mixtures
    from onevision.errors import DataError
    from onevision.inputs.processor import Processor
    from onevision.train.cost.amounts import count_families, simulate_mixture
    from onevision.train.stage import stage_config

    inputs = stage_config(stage, target).inputs
    processor = None if tokenizer is None else Processor(inputs, tokenizer)
    if stage.families:
        assert processor is not None, "only tiny trains on families, and it has a tokenizer"
        return count_families(stage, processor)
    path = Path(stage.mixture or "")
    published = path if path.is_file() else published_mixtures() / path
    try:
        return _count_amounts(stage, processor, options)
    except DataError as absent:
        if not published.is_file():
            raise
        try:
            return simulate_mixture(published, stage, inputs)
        except DataError:
            raise absent from None


def _count_amounts(
    stage: "Stage", processor: "Processor | None", options: "RunOptions"
) -> "tuple[Amount, ...]":
    """Plans a mixture, as a run would. Raises DataError if it cannot be planned."""
    from onevision.cli.planning import plan_and_show
    from onevision.errors import DataError
    from onevision.train.cost.amounts import count_mixture
    from onevision.train.mixture_feed import open_reader

    if processor is None:
        raise DataError(
            f"{stage.mixture}: its samples cannot be counted without a tokenizer; give --tokenizer "
            "FILE, or --from or --language-model with one"
        )
    reader = open_reader(stage, processor, seed=options.seed, roots=options.media_roots)
    return count_mixture(reader, plan_and_show(reader, num_workers=options.num_workers))


def print_table(shown: "CostTable") -> None:
    """Prints one table of a plan, with its remarks below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=shown.title, box=box.SIMPLE, title_justify="left")
    for number, name in enumerate(shown.header):
        table.add_column(name, justify="right" if number else "left")
    for row in shown.rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for remark in shown.remarks:
        console.print(f"  {remark}", highlight=False)
