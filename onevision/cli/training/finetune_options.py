"""The options of `onevision finetune` alone, with their help texts."""

from pathlib import Path
from typing import Annotated

import typer

DataArgument = Annotated[
    str,
    typer.Argument(
        help="A file of records (JSON, JSONL, CSV, Parquet, tar), a folder of them or of pictures "
        "with captions, or a mixture's YAML."
    ),
]
StartOption = Annotated[
    str, typer.Option("--from", help="What to start from: 'tiny', a checkpoint, or a hub id.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Directory of the result; default: runs/NAME-OF-DATA."),
]
MethodOption = Annotated[
    str,
    typer.Option(help="lora, qlora (weights in few bits below), full, or auto: what fits."),
]
BitsOption = Annotated[
    int | None,
    typer.Option(help="Bits of the weights below qlora's adapters: 8 or 4; default: what fits."),
]
RankOption = Annotated[int | None, typer.Option(help="Rank of the adapters; default 16.")]
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the data; default 3.")]
HeldOutOption = Annotated[
    str, typer.Option(help="Share of the samples to hold out, a file of other samples, or none.")
]
PatienceOption = Annotated[
    int, typer.Option(help="Stop after so many measurements without a lower loss; 0: never.")
]
SeedOption = Annotated[int, typer.Option(help="Of the order of samples and of new adapters.")]
RootsOption = Annotated[
    list[Path] | None,
    typer.Option("--root", help="Where media paths start, and where links may lead; repeatable."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
DevicesOption = Annotated[int, typer.Option(help="Processes to train in: one per device.")]
MemoryOption = Annotated[
    float | None, typer.Option(help="GiB of a device to plan with; default: what is free.")
]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Check the data, print what would be done, and stop.")
]
