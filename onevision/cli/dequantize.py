"""`onevision dequantize`: convert a language model from GGUF to safetensors."""

from pathlib import Path
from typing import Annotated

import typer


def dequantize(
    source: Annotated[Path, typer.Argument(help="A GGUF file of a LLaMA.")],
    destination: Annotated[Path, typer.Argument(help="The directory to create.")],
) -> None:
    """Convert a GGUF language model to safetensors, for `train --language-model`."""
    from onevision.checkpoint.parts.dequantize import write_floats

    print(f"{destination}: {write_floats(source, destination)} tensors")
