"""`onevision convert`: a checkpoint in another layout, or an adapter merged into its base."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import VerifyOption


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint or adapter: directory or hub id.")],
    destination: Annotated[Path, typer.Argument(help="The directory to create.")],
    layout: Annotated[
        str | None, typer.Option(help="llava-hf, lmms-lab or onevision; by default the source's.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The model below, if the source is only a LoRA adapter or a projector."),
    ] = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="The vision encoder, if the source has none.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="The chat template, to override the detected one.")
    ] = None,
    verify: VerifyOption = True,
) -> None:
    """Convert a checkpoint to another project's layout; tensors stay bit-equal.

    With --base MODEL, a LoRA adapter is merged into its base.
    """
    from typing import get_args

    from onevision.checkpoint.hub import find_adapter, resolve
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
    adapter = find_adapter(source)
    if below is not None and adapter is not None:
        info = inspect(below, tower=tower, adapter=adapter, verify=verify)
    else:
        info = inspect(resolve(source), base=below, tower=tower)
    written = layout or info.layout
    write(
        info,
        destination,
        layout=written,
        template=None if template is None else known[template],
        tokenizer=Tokenizer.from_directory(info.texts),
        verify=verify,
    )
    merged = "" if adapter is None else f", {adapter} merged"
    print(f"{destination}: {len(info.tensors)} tensors, {info.layout} -> {written}{merged}")
