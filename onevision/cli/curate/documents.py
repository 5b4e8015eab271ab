"""`onevision curate documents`: photographed pages of text, with the text as ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import check_output
from onevision.plural import counted


def documents(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the data set.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pages.")] = 1000,
    languages: Annotated[str, typer.Option(help="Of en and zh.")] = "en",
    corpus: Annotated[
        Path | None,
        typer.Option(help="UTF-8 text to print; default: that of the procedural pages."),
    ] = None,
    fonts: Annotated[
        Path | None, typer.Option(help="A folder of fonts for English; default: twelve.")
    ] = None,
    textures: Annotated[
        Path | None, typer.Option(help="A folder of pictures of paper; default: a grain.")
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="A folder of photographs behind the pages.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other pages.")] = 0,
) -> None:
    """Draw pages over photographs, to read as a whole, by the line or by the value."""
    from onevision.curate.documents.sources import parse_languages, read_sources
    from onevision.curate.documents.write import write_documents

    check_output(output, directory=True)
    sources = read_sources(
        languages=parse_languages(languages),
        corpus=corpus,
        fonts=fonts,
        papers=textures,
        backgrounds=backgrounds,
    )
    path = write_documents(output, sources, count=count, seed=seed)
    print(f"wrote {counted(count, 'page')}: {path}")
