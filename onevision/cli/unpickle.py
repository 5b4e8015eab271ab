"""`onevision unpickle`: pickled weights into safetensors."""

from pathlib import Path
from typing import Annotated

import typer


def unpickle(
    source: Annotated[Path, typer.Argument(help="A directory with .bin files, or one of them.")],
    destination: Annotated[Path, typer.Argument(help="The directory to make.")],
) -> None:
    """Write pickled weights as safetensors; nothing but tensors is read from them."""
    from onevision.checkpoint.unpickle import unpickle as write

    print(f"{destination}: {write(source, destination)} tensors")
