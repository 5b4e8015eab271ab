"""Boxes and points: of an answer, drawn by `ask --draw`, or given to `explain --boxes`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import check_output, is_video
from onevision.conversation import Image, Part, Text
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.boxes import Box, Point
    from onevision.config import ModelConfig, Template

DrawOption = Annotated[
    Path | None,
    typer.Option(help="Draw the boxes and points of the answer on the image, to this PNG."),
]
BoxesOption = Annotated[
    str | None,
    typer.Option(help="Boxes and points to draw, as an answer names them: '[0.1,0.2,0.5,0.8]'."),
]


def check_drawing(parts: list[Part], output: Path | None) -> None:
    """Refuses what cannot be drawn on, before anything is computed. Raises InputError."""
    if output is None:
        return
    media = [part for part in parts if not isinstance(part, Text)]
    if len(media) != 1 or not isinstance(media[0], Image):
        raise InputError(
            f"--draw draws on one image, and the question has {len(media)} images or videos; give "
            "one --image"
        )
    check_output(output)


def draw_answer(
    parts: list[Part], answer: str, template: "Template", output: Path | None, *, quiet: bool
) -> None:
    """Draws what an answer names on the image. Raises InputError if it names nothing."""
    from onevision.boxes import WORDS, find_marks
    from onevision.boxes_drawing import draw_marks
    from onevision.files import atomic_path
    from onevision.inputs.media import open_image
    from onevision.inputs.templates import coordinates_of

    if output is None:
        return
    coordinates = coordinates_of(template)
    marks = find_marks(answer, coordinates=coordinates)
    if not marks:
        raise InputError(
            f"the answer names no box or point ({WORDS[coordinates]}), so {output} is not written; "
            "ask for one"
        )
    (image,) = (part for part in parts if isinstance(part, Image))
    with atomic_path(output) as partial:
        draw_marks(open_image(image.source), marks).save(partial, "PNG")
    if not quiet:
        print(f"drawn: {output}")


def find_given(
    text: str, config: "ModelConfig", files: list[Path], *, keep: float
) -> "list[Box | Point]":
    """Return the boxes and points of a text. Raises InputError if they cannot be drawn."""
    from onevision.boxes import WORDS, find_marks
    from onevision.inputs.templates import coordinates_of

    if len(files) != 1 or is_video(str(files[0])):
        raise InputError(
            f"--boxes draws on one image, and {len(files)} files were given; give one image"
        )
    if keep < 1:
        raise InputError("--boxes would change which tokens stay; leave out --boxes or --keep")
    coordinates = coordinates_of(config.inputs.template)
    marks = find_marks(text, coordinates=coordinates)
    if not marks:
        raise InputError(f"--boxes is {text!r}; expected {WORDS[coordinates]}")
    return marks
