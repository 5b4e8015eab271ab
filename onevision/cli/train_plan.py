"""`onevision train --plan`: steps, tokens, operations, memory, hours and dollars of a stage."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onevision.train.amounts import Amount
    from onevision.train.options import RunOptions
    from onevision.train.recipes import Stage

# Mixtures that a stage names without a directory.
MIXTURES = Path(__file__).parents[2] / "mixtures"


def print_plan(
    stage: "Stage",
    model: str,
    tokenizer: Path | None,
    options: "RunOptions",
    *,
    devices: int,
    kind: str,
    price: float | None,
) -> None:
    """Print the plan of a stage on a number of devices; no weights are needed."""
    from onevision.known_models import ARCHITECTURES
    from onevision.train.cost import plan_training
    from onevision.train.cost_tables import tables
    from onevision.train.devices import device_named

    plan = plan_training(
        stage,
        ARCHITECTURES[model],
        _amounts(stage, model, tokenizer),
        kind=device_named(kind, price_per_hour=price),
        num_devices=devices,
        recompute=options.recompute,
    )
    for table in tables(plan):
        _print(table.title, table.header, table.rows, table.remarks)
    if options.lora is not None:
        print(
            "  Counted as if whole parts learned: with lora_rank, those that have adapters need "
            "next to no gradients and moments."
        )


def _amounts(stage: "Stage", model: str, tokenizer: Path | None) -> "tuple[Amount, ...]":
    from onevision.known_models import ARCHITECTURES
    from onevision.train.amounts import drawn_amounts, published_amounts
    from onevision.train.stages import stage_config

    inputs = stage_config(stage, ARCHITECTURES[model]).inputs
    if not stage.families:
        path = Path(stage.mixture or "")
        return published_amounts(path if path.is_file() else MIXTURES / path, stage, inputs)
    from onevision.checkpoint.hub import BUNDLED
    from onevision.inputs.processor import Processor
    from onevision.inputs.tokenizer import Tokenizer

    path = tokenizer if tokenizer is not None and tokenizer.is_file() else None
    words = (
        Tokenizer.from_directory(BUNDLED["tiny"])
        if path is None
        else Tokenizer(path.read_text(encoding="utf-8"), name=str(path))
    )
    return drawn_amounts(stage, Processor(inputs, words))


def _print(
    title: str,
    header: tuple[str, ...],
    rows: tuple[tuple[str, ...], ...],
    remarks: tuple[str, ...],
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for remark in remarks:
        console.print(f"  {remark}", highlight=False)
