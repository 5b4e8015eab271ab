"""`onevision convert`: a checkpoint in another layout, or an adapter merged into its base."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from onevision.cli.options import VerifyOption
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.checkpoint.load import CheckpointInfo

LAYOUT_HELP = (
    "llava-hf, lmms-lab, onevision-1.5, onevision-2 or onevision; the source's if left out."
)
SELF_CHECK_HELP = "Compare the logits of both; if the destination exists, nothing is written."


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint or adapter: directory or hub id.")],
    destination: Annotated[Path, typer.Argument(help="The directory to create.")],
    layout: Annotated[str | None, typer.Option(help=LAYOUT_HELP)] = None,
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
    dequantize: Annotated[
        bool, typer.Option("--dequantize", help="Multiply quantized weights out.")
    ] = False,
    self_check: Annotated[bool, typer.Option("--self-check", help=SELF_CHECK_HELP)] = False,
    verify: VerifyOption = True,
) -> None:
    """Convert a checkpoint to another project's layout; tensors stay bit-equal.

    With --base MODEL, a LoRA adapter is merged into its base. --self-check runs both on one fixed
    prompt, and takes the memory of one in fp32.
    """
    from onevision.checkpoint.hub import find_adapter, resolve
    from onevision.checkpoint.load import inspect
    from onevision.checkpoint.save import convert as write
    from onevision.config import Template
    from onevision.errors import InputError
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.values import name_closest

    known = {str(name): name for name in get_args(Template)}
    if template is not None and template not in known:
        raise InputError(f"--template is {template!r}{name_closest(template, known)}")
    below = None if base is None else resolve(base)
    tower = None if vision_tower is None else resolve(vision_tower)
    adapter = find_adapter(source)
    if below is not None and adapter is not None:
        info = inspect(below, tower=tower, adapter=adapter, verify=verify)
    else:
        info = inspect(resolve(source), base=below, tower=tower)
    if dequantize and info.scheme is None:
        raise InputError(f"{source}: no weight is quantised; leave --dequantize out")
    written = layout or info.layout
    if not (self_check and destination.exists()):
        write(
            info,
            destination,
            layout=written,
            template=None if template is None else known[template],
            tokenizer=Tokenizer.from_directory(info.texts),
            verify=verify,
            dequantise=dequantize,
        )
        merged = "" if adapter is None else f", {adapter} merged"
        print(_describe(info, destination) + f"{written}{merged}")
    if self_check:
        _compare(info, destination)


def _describe(info: "CheckpointInfo", destination: Path) -> str:
    return f"{destination}: {counted(len(info.tensors), 'tensor')}, {info.layout} -> "


def _compare(info: "CheckpointInfo", destination: Path) -> None:
    from onevision.checkpoint.self_check import check_conversion

    found = check_conversion(info, destination)
    print(
        f"{destination}: {found.num_logits:,} logits agree with those of {info.directory} "
        f"within {found.difference:.1g} standard deviations"
    )
