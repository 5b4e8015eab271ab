"""`onevision curate balance`: keeps the rare concepts of captions and thins out the others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import DeviceOption, check_output, refuse_options
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.curate.balance.filter import BalanceResult

OF_PHRASES = {"min_count", "max_count"}
OF_EMBEDDINGS = {"concepts", "top_k", "keep", "device"}


def balance(
    context: typer.Context,
    captions: Annotated[
        Path, typer.Argument(help="Records with image and caption, of any form `data` reads.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Records, JSON lines.")],
    min_count: Annotated[
        int, typer.Option(help="Phrases of fewer captions than this add none.")
    ] = 3,
    max_count: Annotated[int, typer.Option(help="Captions that a phrase adds at most.")] = 100,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Balance by embeddings of this model: a language model's directory, a checkpoint "
            "or 'tiny'; needs --concepts and --keep."
        ),
    ] = None,
    concepts: Annotated[
        Path | None, typer.Option(help="With --encoder: the concepts, one a line.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="With --encoder: concepts of a caption.")] = 10,
    keep: Annotated[
        int | None, typer.Option(help="With --encoder: how many captions to draw.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other captions.")] = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Balance captions by their noun phrases, rare ones first, as LLaVA filtered CC3M."""
    from onevision.curate.balance.filter import BalanceConfig
    from onevision.curate.balance.filter import balance as filter_captions
    from onevision.data.sources import open_source
    from onevision.errors import InputError

    check_output(output)
    if output.resolve() == captions.resolve():
        raise InputError(f"{output}: --output is the input; give another --output")
    if encoder is not None:
        refuse_options(context, OF_PHRASES, use="a run with --encoder")
        result = _balance_by_embedding(captions, output, encoder, concepts=concepts, top_k=top_k,
                                       keep=keep, seed=seed, device=device)  # fmt: skip
        _show(result, output, f"{counted(result.selection.num_phrases, 'concept')}, "
              f"{result.selection.num_rare:,} of them near no caption")  # fmt: skip
        return
    refuse_options(context, OF_EMBEDDINGS, use="a run without --encoder")
    config = BalanceConfig(min_count=min_count, max_count=max_count, seed=seed)
    result = filter_captions(open_source(captions), output, config=config)
    found = counted(result.selection.num_phrases, "phrase")
    fewer = counted(min_count, "caption")
    _show(result, output, f"{found}, {result.selection.num_rare:,} of them in fewer than {fewer}")


def _balance_by_embedding(
    captions: Path,
    output: Path,
    encoder: str,
    *,
    concepts: Path | None,
    top_k: int,
    keep: int | None,
    seed: int,
    device: str,
) -> "BalanceResult":
    from onevision.curate.balance.embedded import EmbeddedConfig
    from onevision.curate.balance.encoder import TextEncoder
    from onevision.curate.balance.filter import balance_by_embedding, read_concepts
    from onevision.data.sources import open_source
    from onevision.errors import InputError
    from onevision.generate.answer import load

    if concepts is None or keep is None:
        missing = "--concepts FILE" if concepts is None else "--keep N"
        raise InputError(f"--encoder needs {missing}: the concepts to balance, how many to keep")
    config = EmbeddedConfig(num_kept=keep, top_k=top_k, seed=seed)
    source, names = open_source(captions), read_concepts(concepts)
    return balance_by_embedding(
        source,
        output,
        concepts=names,
        encoder=TextEncoder(load(encoder, device=device)),
        config=config,
    )


def _show(result: "BalanceResult", output: Path, concepts: str) -> None:
    print(
        f"{result.num_kept:,} of {counted(result.num_captions, 'caption')} kept: {output}\n"
        f"{concepts}"
    )
    if result.num_unreadable:
        print(
            f"{counted(result.num_unreadable, 'record')} could not be read; the first: "
            f"{result.first_problem}"
        )
