"""The options of the training commands, with what `--help` says of each."""

from pathlib import Path
from typing import Annotated

import typer

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
        help="Lines of id, image or video (a path, or a list), prompt, chosen, rejected."
    ),
]
RootOption = Annotated[
    Path | None, typer.Option(help="Where media lie; by default beside the file.")
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The run's directory.")]
CurriculumOption = Annotated[
    str, typer.Option("--model", "-m", help="Whose curriculum; `onevision models` lists them.")
]
FromOption = Annotated[
    list[Path] | None,
    typer.Option("--from", help="A checkpoint of an earlier stage; repeatable."),
]
LanguageModelOption = Annotated[
    Path | None, typer.Option(help="A released language model, for the first stage.")
]
VisionEncoderOption = Annotated[
    Path | None, typer.Option(help="A released CLIP or SigLIP, for the first stage.")
]
MixtureOption = Annotated[
    Path | None, typer.Option(help="What to learn from; by default the stage's own.")
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(help="What `data check --manifest` wrote: learn from exactly those samples."),
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(help="A tokenizer.json; by default that of --from or --language-model."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value of the stage or the run (dpo: beta, sft_weight too)."),
]
PeakOption = Annotated[
    float | None,
    typer.Option(help="1e12 operations a second of one device, for MFU; known of common GPUs."),
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what it costs; train nothing.")]
DevicesOption = Annotated[int, typer.Option(help="For --plan: how many devices.")]
DeviceKindOption = Annotated[str, typer.Option(help="For --plan: their kind.")]
PriceOption = Annotated[float | None, typer.Option(help="For --plan: dollars an hour and device.")]
AllowChangeOption = Annotated[
    list[str] | None,
    typer.Option(help="A setting that may differ from the one the run began with."),
]
TensorBoardOption = Annotated[bool, typer.Option(help="Write TensorBoard's files too.")]
WandbOption = Annotated[str | None, typer.Option(help="A project of Weights & Biases.")]


def with_options(settings: list[str] | None, **named: object) -> list[str]:
    """Return `--set`'s key=value texts with those of options that have a name of their own."""
    return [*(settings or []), *(f"{k}={v}" for k, v in named.items() if v is not None)]
