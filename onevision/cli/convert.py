"""`onevision convert`: a checkpoint from one layout into another."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint directory or a hub id.")],
    destination: Annotated[Path, typer.Argument(help="The directory to make.")],
    layout: Annotated[str, typer.Option(help="llava-hf, lmms-lab or onevision.")],
) -> None:
    """Write a checkpoint again in another project's layout; tensors stay bit-equal."""
    from onevision.checkpoint.hub import resolve
    from onevision.checkpoint.load import inspect
    from onevision.checkpoint.save import convert as write

    info = inspect(resolve(source))
    write(info, destination, layout=layout)
    print(f"{destination}: {len(info.tensors)} tensors, {info.layout} -> {layout}")
