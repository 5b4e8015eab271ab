"""`onevision convert`: convert a checkpoint to another layout."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint directory or a hub id.")],
    destination: Annotated[Path, typer.Argument(help="The directory to create.")],
    layout: Annotated[str, typer.Option(help="llava-hf, lmms-lab or onevision.")],
    base: Annotated[
        str | None,
        typer.Option(help="The base language model, if the source is only a projector or LoRA."),
    ] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="The vision encoder, if the source has none.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="The chat template, to override the detected one.")
    ] = None,
) -> None:
    """Convert a checkpoint to another project's layout; tensors stay bit-equal."""
    from typing import get_args

    from onevision.checkpoint.hub import resolve
    from onevision.checkpoint.load import inspect
    from onevision.checkpoint.save import convert as write
    from onevision.config import Template
    from onevision.errors import InputError
    from onevision.inputs.tokenizer import Tokenizer

    known = {str(name): name for name in get_args(Template)}
    if template is not None and template not in known:
        raise InputError(f"--template is {template!r}; expected one of {', '.join(known)}")
    below = None if base is None else resolve(base)
    tower = None if vision_tower is None else resolve(vision_tower)
    info = inspect(resolve(source), base=below, tower=tower)
    lacks_words = below is not None and not (info.directory / "tokenizer.json").is_file()
    write(
        info,
        destination,
        layout=layout,
        template=None if template is None else known[template],
        tokenizer=Tokenizer.from_directory(below) if below and lacks_words else None,
    )
    print(f"{destination}: {len(info.tensors)} tensors, {info.layout} -> {layout}")
