"""`onevision synth`: lists and previews the procedural families, and writes data sets of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from onevision.cli.options import check_output, refuse_options
from onevision.conversation import Image
from onevision.plural import counted

synth = typer.Typer(
    help="Generate procedural training data.", no_args_is_help=True, add_completion=False
)

FamilyOption = Annotated[
    str, typer.Option("--family", "-f", help="A name that `synth list` prints.")
]
SeedOption = Annotated[int, typer.Option(help="Another seed gives other samples.")]


@synth.command(name="list")
def list_families() -> None:
    """List the families and what each shows."""
    from onevision.synth.families import FAMILIES, summary

    for name in FAMILIES:
        print(f"{name:<18} {summary(name)}")


@synth.command()
def preview(
    family: FamilyOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG file.")] = Path(
        "preview.png"
    ),
    count: Annotated[int, typer.Option(help="Number of samples.", min=1, max=60)] = 12,
    seed: SeedOption = 0,
) -> None:
    """Write a contact sheet of a family, with questions and answers."""
    from onevision.files import atomic_path
    from onevision.synth.families import family_named
    from onevision.synth.preview import contact_sheet
    from onevision.synth.write import SAMPLES_PER_SEED

    make = family_named(family)
    check_output(output)
    samples = [make("train", seed * SAMPLES_PER_SEED + number) for number in range(count)]
    with atomic_path(output) as partial:
        contact_sheet(samples).save(partial, "PNG")
    print(f"wrote {output}")


@synth.command()
def write(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Directory of the data set.")],
    family: FamilyOption,
    count: Annotated[int, typer.Option(help="Number of samples.", min=1)] = 1000,
    seed: SeedOption = 0,
    teaches: Annotated[
        Literal["captions", "aspects", "descriptions", "questions", "prompts"],
        typer.Option(
            help="What the records teach: captions for align; aspects, captions with short ones of "
            "one property each, for a mixture with turns: apart; descriptions for knowledge; "
            "questions for later stages; prompts for reinforce."
        ),
    ] = "questions",
    image_format: Annotated[
        Literal["png", "jpeg"], typer.Option(help="File format of images.")
    ] = "png",
    captions: Annotated[
        bool,
        typer.Option(
            "--captions",
            help="Also write captions.jsonl, what is known of each picture, for `curate instruct` "
            "and `curate balance`; pictures with too little to say are skipped.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a set of this family that is there.")
    ] = False,
) -> None:
    """Write a data set as LLaVA records, with its media beside them."""
    from onevision.synth.captions import CAPTIONS, check_captioned
    from onevision.synth.families import family_named
    from onevision.synth.write import write_set

    make = family_named(family)
    first = make("train", 0)
    check_output(directory, directory=True)
    if captions:
        check_captioned(first, family)
    if not any(isinstance(medium, Image) for medium in first.media):
        refuse_options(context, {"image_format"}, use=f"{family}, which has no images")
    if not overwrite:
        _check_is_new(directory, family, captions=captions)
    path = write_set(
        directory,
        make,
        name=family,
        count=count,
        seed=seed,
        teaches=teaches,
        image_format=image_format,
        captions=captions,
    )
    print(f"wrote {counted(count, 'sample')}: {path}")
    if captions:
        print(f"captions: {directory / CAPTIONS}")


def _check_is_new(directory: Path, family: str, *, captions: bool) -> None:
    """Refuses to replace records, or media that records may name. Raises DataError."""
    from onevision.errors import DataError
    from onevision.synth.captions import CAPTIONS

    places = [directory / f"{family}.json", directory / family]
    if captions and (directory / CAPTIONS).exists():
        raise DataError(
            f"{directory / CAPTIONS}: it is there already; choose another directory, or give "
            "--overwrite"
        )
    for path in places:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise DataError(
                f"{path}: a set of {family} is there already; choose another directory, or give "
                "--overwrite"
            )
