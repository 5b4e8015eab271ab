"""`onevision explain`: show how images and videos become crops and visual tokens."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onevision.cli.options import JsonOption, check_output, is_video, model_config, parse_size
from onevision.conversation import Image, Video
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.explain import Explanation


def explain(
    files: Annotated[list[Path] | None, typer.Argument(help="Images and videos.")] = None,
    size: Annotated[str | None, typer.Option(help="An image size, such as 1920x1080.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Draw to this PNG.")] = None,
    num_frames: Annotated[int, typer.Option(help="Maximum frames per video.")] = 32,
    model: Annotated[
        str, typer.Option("--model", "-m", help="0.5b, 7b, 72b, tiny, or a checkpoint.")
    ] = "0.5b",
    as_json: JsonOption = False,
) -> None:
    """Show the crop grid, the kept tokens and their cost; needs no weights.

    Several files are those of one conversation, where the model sees each image as one crop.
    """
    from onevision.explain import explain_image, explain_video

    if not files and size is None:
        raise InputError("nothing to explain; give image or video files, or --size WIDTHxHEIGHT")
    if output is not None:
        check_output(output)
    config = model_config(model)
    several = sum(not is_video(str(path)) for path in files or []) > 1
    explanations = [
        explain_video(Video(str(path), num_frames=num_frames), config)
        if is_video(str(path))
        else explain_image(Image(str(path)), config, among_several=several)
        for path in files or []
    ]
    together = sum(explanation.cost.num_tokens for explanation in explanations)
    if size is not None:
        explanations.append(explain_image(parse_size(size), config))
    if as_json:
        print(json.dumps([_values(e) for e in explanations], ensure_ascii=False))
    else:
        for explanation in explanations:
            print(explanation.name, *(f"  {line}" for line in explanation.lines()), sep="\n")
        if several:
            print(f"together in one conversation: {together:,} visual tokens; explained alone, an "
                  "image may have more crops")  # fmt: skip
    if output is not None:
        for path in _save(explanations, output):
            if not as_json:
                print(f"drawn: {path}")


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
