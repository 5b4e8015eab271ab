"""`onevision synth`: look at the procedural families, and write sets of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

synth = typer.Typer(
    help="Draw procedural training data.", no_args_is_help=True, add_completion=False
)

FamilyOption = Annotated[str, typer.Option("--family", "-f", help="`synth list` names them.")]
SeedOption = Annotated[int, typer.Option(help="Another seed draws other samples.")]


@synth.command(name="list")
def list_families() -> None:
    """Name the families and what each draws."""
    from onevision.synth.families import FAMILIES, summary

    for name in FAMILIES:
        print(f"{name:<18} {summary(name)}")


@synth.command()
def preview(
    family: FamilyOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="A PNG.")] = Path("preview.png"),
    count: Annotated[int, typer.Option(help="Samples on the sheet.", min=1, max=60)] = 12,
    seed: SeedOption = 0,
) -> None:
    """Draw a contact sheet of a family, with questions and answers."""
    from onevision.synth.families import family_named
    from onevision.synth.preview import contact_sheet
    from onevision.synth.write import SAMPLES_A_SEED

    make = family_named(family)
    samples = [make("train", seed * SAMPLES_A_SEED + number) for number in range(count)]
    contact_sheet(samples).save(output, "PNG")
    print(f"drawn: {output}")


@synth.command()
def write(
    directory: Annotated[Path, typer.Argument(help="Where the set goes.")],
    family: FamilyOption,
    count: Annotated[int, typer.Option(help="Samples.", min=1)] = 1000,
    seed: SeedOption = 0,
    teaches: Annotated[
        Literal["captions", "descriptions", "questions"],
        typer.Option(help="What the records say: for align, knowledge, or the later stages."),
    ] = "questions",
    image_format: Annotated[Literal["png", "jpeg"], typer.Option(help="Of pictures.")] = "png",
) -> None:
    """Write a set as LLaVA records, with its media beside it."""
    from onevision.synth.families import family_named
    from onevision.synth.write import write_set

    path = write_set(
        directory,
        family_named(family),
        name=family,
        count=count,
        seed=seed,
        teaches=teaches,
        image_format=image_format,
    )
    print(f"wrote {count:,} samples: {path}")
