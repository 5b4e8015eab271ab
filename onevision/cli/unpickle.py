"""`onevision unpickle`: convert pickled weights to safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.plural import counted


def unpickle(
    source: Annotated[Path, typer.Argument(help="A .bin file, or a directory of them.")],
    destination: Annotated[Path, typer.Argument(help="The directory to create.")],
) -> None:
    """Convert pickled weights to safetensors; only tensors are unpickled, no code runs."""
    from onevision.checkpoint.unpickle import unpickle as write

    print(f"{destination}: {counted(write(source, destination), 'tensor')}")
