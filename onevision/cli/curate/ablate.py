"""`onevision curate ablate`: which kinds of instruction data help, on procedural pictures."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import check_output


def ablate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the runs.")],
    start: Annotated[
        str, typer.Option("--from", help="The model: 'tiny', a checkpoint directory or a hub id.")
    ] = "tiny",
    pictures: Annotated[int, typer.Option(min=1, help="Pictures to learn from.")] = 64,
    heldout: Annotated[int, typer.Option(min=1, help="Pictures to ask about.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each arm.")] = 3,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE of the stage or the run, as for `train`; repeatable."
        ),
    ] = None,
) -> None:
    """Train with no, some and all kinds of instruction data, as LLaVA's table 4 does."""
    from onevision.curate.learning.ablate import Ablation
    from onevision.train.start import find_start

    check_output(output, directory=True)
    results = Ablation(
        output=output,
        start=find_start(start),
        num_pictures=pictures,
        num_heldout=heldout,
        num_seeds=seeds,
        settings=tuple(settings or ()),
        on_score=lambda text: print(text, flush=True),
    ).run()
    if results is None:
        print("stopped; run it again to continue")
        raise typer.Exit(1)
    for name, by_kind in results["arms"].items():
        told = ", ".join(
            f"{kind} {one['mean']:.1f} ± {one['deviation']:.1f}" for kind, one in by_kind.items()
        )
        print(f"{name}: {told}")
    print(f"order: {' > '.join(results['order'])}")
    print(f"LLaVA's order: {' > '.join(results['published_order'])}")
