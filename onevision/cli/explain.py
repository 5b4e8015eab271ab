"""`onevision explain`: show how images and videos become crops and visual tokens."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onevision.cli.drawing import BoxesOption, find_given
from onevision.cli.options import (
    JsonOption,
    KeepOption,
    SamplerOption,
    check_output,
    is_video,
    load_model,
    model_config,
    parse_size,
    refuse_options,
)
from onevision.conversation import Image, Video, check_keep, parse_sampler
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.explain import Explanation
    from onevision.model.llava import LlavaNetwork


def explain(
    context: typer.Context,
    files: Annotated[list[Path] | None, typer.Argument(help="Images and videos.")] = None,
    size: Annotated[str | None, typer.Option(help="An image size, such as 1920x1080.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Draw to this PNG.")] = None,
    num_frames: Annotated[int, typer.Option(help="Maximum frames per video.")] = 32,
    sampler: SamplerOption = "even",
    model: Annotated[
        str, typer.Option("--model", "-m", help="0.5b, 7b, 72b, tiny, or a checkpoint.")
    ] = "0.5b",
    keep: KeepOption = None,
    boxes: BoxesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the crop grid, the kept tokens and their cost; needs no weights.

    Several files are those of one conversation, where the model sees each image as one crop.
    Drawing which tokens stay with --keep needs weights: --model tiny, or a checkpoint.
    """
    from onevision.explain import explain_image, explain_video

    if not files and size is None:
        raise InputError("nothing to explain; give image or video files, or --size WIDTHxHEIGHT")
    check_keep(keep)
    share = keep or 1.0
    _check_options(context, files or [])
    if output is not None:
        check_output(output)
    network = _load_network(model) if output is not None and files and share < 1 else None
    config = model_config(model)
    marks = [] if boxes is None else find_given(boxes, config, files or [], keep=share)
    several = sum(not is_video(str(path)) for path in files or []) > 1
    explanations = [
        explain_video(
            Video(str(path), num_frames=num_frames, sampler=parse_sampler(sampler)),
            config,
            keep=share,
            network=network,
        )
        if is_video(str(path))
        else explain_image(
            Image(str(path)),
            config,
            among_several=several,
            keep=share,
            network=network,
            marks=marks,
        )
        for path in files or []
    ]
    together = sum(explanation.cost.num_tokens for explanation in explanations)
    if size is not None:
        explanations.append(explain_image(parse_size(size), config, keep=share))
    if as_json:
        print(json.dumps([_values(e) for e in explanations], ensure_ascii=False))
    else:
        _print(explanations, together=together if several else None)
    paths = list[Path]() if output is None else _save(explanations, output)
    if not as_json:
        print("".join(f"drawn: {path}\n" for path in paths), end="")


def _print(explanations: list["Explanation"], *, together: int | None) -> None:
    """Print what is explained, and the visual tokens of several files in one conversation."""
    for explanation in explanations:
        print(explanation.name, *(f"  {line}" for line in explanation.lines()), sep="\n")
    if together is not None:
        print(f"together in one conversation: {together:,} visual tokens; explained alone, an "
              "image may have more crops")  # fmt: skip


def _check_options(context: typer.Context, files: list[Path]) -> None:
    if not any(is_video(str(path)) for path in files):
        refuse_options(context, {"num_frames", "sampler"}, use="what holds no video")


def _load_network(name: str) -> "LlavaNetwork":
    """Load the weights that choose which tokens stay. Raises InputError if there are none."""
    from onevision.checkpoint.hub import BUNDLED
    from onevision.known_models import ARCHITECTURES

    if name in ARCHITECTURES and name not in BUNDLED:
        raise InputError(
            f"which tokens stay depends on weights, and --model {name} is an architecture alone; "
            "give --model tiny or a checkpoint, or leave out --output"
        )
    return load_model(name, device="cpu", dtype="auto").network


def _values(explanation: "Explanation") -> dict[str, Any]:  # Any: JSON
    values: dict[str, Any] = {"name": explanation.name, "layout": asdict(explanation.layout)}
    values |= asdict(explanation.cost)
    if explanation.seconds is not None:
        values["seconds"] = [round(s, 4) for s in explanation.seconds]
    return values


def _save(explanations: list["Explanation"], output: Path) -> list[Path]:
    """Draw each explanation; from the second on, file names get a number."""
    from onevision.explain_drawing import draw_explanation

    paths = []
    for number, explanation in enumerate(explanations, start=1):
        path = output if number == 1 else output.with_stem(f"{output.stem}-{number}")
        try:
            draw_explanation(explanation).save(path, format="PNG")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        paths.append(path)
    return paths
