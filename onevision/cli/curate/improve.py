"""`onevision curate improve`: a model learns from its own descriptions, in rounds."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.curate import writers
from onevision.cli.options import DeviceOption, check_output

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Directory of the rounds.")]
StartOption = Annotated[
    str, typer.Option("--from", help="The model: 'tiny', a checkpoint directory or a hub id.")
]
GatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        help="What descriptions must pass, as for `curate gate`; default length=5-400 and "
        "duplicates.",
    ),
]
QuestionsOption = Annotated[
    str,
    typer.Option(
        help="What is asked before and after: held-out questions of single_image, multi_image or "
        "video, or a file of records."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE of the stage or the run, as for `train`; repeatable."),
]


def improve(
    pictures: writers.PicturesArgument,
    output: OutputOption,
    start: StartOption = "tiny",
    rounds: Annotated[int, typer.Option(help="How often it describes and learns.")] = 2,
    gates: GatesOption = None,
    questions: QuestionsOption = "single_image",
    count: Annotated[int, typer.Option(min=2, help="How many of the questions.")] = 600,
    language: writers.LanguageOption = "en",
    root: writers.RootOption = None,
    prompts: writers.PromptsOption = None,
    settings: SetOption = None,
    parallel: writers.ParallelOption = 8,
    seed: writers.SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Describe pictures, filter, train the knowledge stage again, measure; in rounds."""
    from onevision.curate.learning.improve import (
        ImproveCallbacks,
        ImproveConfig,
        Improvement,
    )
    from onevision.curate.learning.measure import open_measure
    from onevision.curate.recaption import RECAPTION_PROMPTS, open_pictures
    from onevision.train.report.journal import Callbacks
    from onevision.train.start import find_start

    check_output(output, directory=True)
    config = ImproveConfig(
        num_rounds=rounds,
        language=language,
        gates=tuple(gates) if gates else ImproveConfig.gates,
        questions=questions,
        num_questions=count,
        settings=tuple(settings or ()),
        seed=seed,
        prompts=prompts or RECAPTION_PROMPTS,
    )
    checkpoint = Improvement(
        sources=open_pictures(pictures, root=root),
        start=find_start(start),
        output=output,
        measure=open_measure(questions, count=count),
        config=config,
        device=device,
        at_once=parallel,
        callbacks=ImproveCallbacks(
            on_message=lambda text: print(text, flush=True),
            on_progress=writers.progress(),
            run=Callbacks(on_warning=lambda text: print(f"warning: {text}", file=sys.stderr)),
        ),
    ).run()
    if checkpoint is None:
        print("stopped; run it again to continue", file=sys.stderr)
        raise typer.Exit(1)
    print(f"wrote {checkpoint}; before and after: {output / 'results.json'}")
