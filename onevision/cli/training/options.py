"""The options of the training commands, with their help texts."""

from pathlib import Path
from typing import Annotated

import typer


def _print_keys(wanted: bool) -> None:
    if wanted:
        from onevision.cli.training.keys import print_keys

        print_keys()
        raise typer.Exit


StageArgument = Annotated[
    str,
    typer.Argument(
        help="align, knowledge, single_image or onevision; for tiny, before them: tokenizer, "
        "vision, language; for the family before OneVision: align, instruct."
    ),
]
PreferencesArgument = Annotated[
    Path,
    typer.Argument(
        help="JSON lines with id, image or video (a path, or a list), prompt, chosen, rejected."
    ),
]
RootOption = Annotated[
    Path | None, typer.Option(help="The directory of media paths; by default that of the file.")
]
MediaRootsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        help="Where media paths start; by default the folder of the records. Repeatable: links may "
        "lead to the others.",
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The run's directory.")]
CurriculumOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The model whose curriculum it is; see `onevision models`. By default that of the "
        "size of --from, or tiny.",
    ),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="What to start from: 'tiny', a checkpoint, or a hub id; repeatable. Its architecture "
        "is kept.",
    ),
]
LanguageModelOption = Annotated[
    str | None,
    typer.Option(help="A released language model, for the first stage: a directory or a hub id."),
]
VisionEncoderOption = Annotated[
    str | None,
    typer.Option(help="A released CLIP or SigLIP, for the first stage: a directory or a hub id."),
]
MixtureOption = Annotated[
    Path | None, typer.Option(help="A mixture file to learn from; by default the stage's own.")
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(help="A manifest by `data check --manifest`: learn from exactly its samples."),
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(
        help="A tokenizer.json, or a directory with one; by default that of --from or "
        "--language-model."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value of the stage or the run (dpo: beta, sft_weight too)."),
]
PeakOption = Annotated[
    float | None,
    typer.Option(
        help="Peak of a device in 1e12 operations per second, for MFU; known for common GPUs."
    ),
]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Print what the stage costs; train nothing.")
]
DevicesOption = Annotated[int, typer.Option(help="For --plan: the number of devices.")]
DeviceKindOption = Annotated[str, typer.Option(help="For --plan: their kind.")]
PriceOption = Annotated[float | None, typer.Option(help="For --plan: dollars per hour and device.")]
AllowChangeOption = Annotated[
    list[str] | None,
    typer.Option(help="A setting that may differ from when the run began; repeatable."),
]
TensorBoardOption = Annotated[bool, typer.Option(help="Also write TensorBoard files.")]
KeysOption = Annotated[
    bool,
    typer.Option(
        "--keys", callback=_print_keys, is_eager=True, help="Print every key of --set, and exit."
    ),
]
WandbOption = Annotated[str | None, typer.Option(help="A Weights & Biases project to log to.")]


def with_options(settings: list[str] | None, **named: object) -> list[str]:
    """Returns the key=value texts of `--set` and of options that have their own names."""
    return [*(settings or []), *(f"{k}={v}" for k, v in named.items() if v is not None)]
