"""`onevision train`: a stage of a curriculum, or what it would cost."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from onevision.cli.options import refuse_unheeded
from onevision.cli.training import options as given

if TYPE_CHECKING:
    from onevision.config import ModelConfig
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.options import RunOptions
    from onevision.train.stage import Stage
    from onevision.train.start import Starts


OF_PLANS = {"devices", "device_kind", "price"}  # the options that only a plan heeds
OF_RUNS = {"allow_change", "tensorboard", "wandb"}  # and those that only a run does


def train(
    context: typer.Context,
    stage: given.StageArgument,
    output: given.OutputOption,
    model: given.CurriculumOption = None,
    start: given.FromOption = None,
    language_model: given.LanguageModelOption = None,
    vision_encoder: given.VisionEncoderOption = None,
    mixture: given.MixtureOption = None,
    root: given.MediaRootsOption = None,
    manifest: given.ManifestOption = None,
    tokenizer: given.TokenizerOption = None,
    settings: given.SetOption = None,
    plan: given.PlanOption = False,
    devices: given.DevicesOption = 1,
    device_kind: given.DeviceKindOption = "h100",
    price: given.PriceOption = None,
    allow_change: given.AllowChangeOption = None,
    peak_tflops: given.PeakOption = None,
    tensorboard: given.TensorBoardOption = False,
    wandb: given.WandbOption = None,
    _keys: given.KeysOption = False,
) -> None:
    """Train a stage of a curriculum, or resume one that was stopped; see docs/training.md."""
    from onevision.cli.training.plan import print_plan
    from onevision.cli.training.run import train_and_show
    from onevision.train.config import TrainConfig
    from onevision.train.objectives.table import make_objective
    from onevision.train.target import choose_model

    _check_options(context, stage, plan=plan)
    if stage == "tokenizer":
        _train_tokenizer(output, model or "tiny", mixture)
        return
    starts = _find_starts(start, language_model, vision_encoder)
    model = model or choose_model(starts.previous, stage=stage)
    told = _tell(settings, root, manifest=manifest, peak_tflops=peak_tflops)
    chosen, options = _apply_options(stage, model, mixture, _move(told, to=plan and device_kind))
    target = _target(chosen, model, starts)
    if plan:
        words = _find_tokenizer(tokenizer, starts) or _bundled_tokenizer(model)
        print_plan(chosen, target, words, options, devices=devices, kind=device_kind, price=price)
        return
    words = _tokenizer(tokenizer, starts)
    train_and_show(
        TrainConfig(
            stage=chosen,
            target=target,
            options=options,
            starts=tuple(map(str, starts.directories)),
            tokenizer=words.name,
        ),
        words,
        starts,
        output,
        make_objective=make_objective,
        allow_change=allow_change or [],
        tensorboard=tensorboard,
        wandb=wandb,
    )


def _check_options(context: typer.Context, stage: str, *, plan: bool) -> None:
    """Refuses options that this use of the command does not heed. Raises InputError."""
    everything = set(context.params)
    if stage == "tokenizer":
        refuse_unheeded(context, {"stage", "output", "model", "mixture"}, use="the stage tokenizer")
    elif plan:
        refuse_unheeded(context, everything - OF_RUNS, use="a plan")
    else:
        refuse_unheeded(context, everything - OF_PLANS, use="a run without --plan")


def _tell(settings: list[str] | None, root: list[Path] | None, **named: object) -> list[str]:
    """Returns the settings, with those that have options of their own."""
    from onevision.commas import join_items

    roots = join_items(root) if root else None
    return given.with_options(settings, media_roots=roots, **named)


def _move(settings: list[str], *, to: str | bool) -> list[str]:
    """Returns the settings of a plan for a GPU: not this machine's device, nor its precision."""
    if to in (False, "cpu"):
        return settings
    return ["device=cuda", *(one for one in settings if not one.startswith("device="))]


def _find_starts(
    previous: list[str] | None, language_model: str | None, vision_encoder: str | None
) -> "Starts":
    """Finds the checkpoints that a run begins with. Raises InputError, ModelNotFoundError."""
    from onevision.checkpoint.hub import resolve
    from onevision.train.start import Starts, find_start

    return Starts(
        previous=tuple(map(find_start, previous or ())),
        language_model=None if language_model is None else resolve(language_model),
        vision_encoder=None if vision_encoder is None else resolve(vision_encoder),
    )


def _apply_options(
    name: str, model: str, mixture: Path | None, settings: list[str]
) -> "tuple[Stage, RunOptions]":
    """Returns the stage and the run's options, as `--mixture` and `--set` change them."""
    from onevision.train.config import make_run_options
    from onevision.train.lora.targets import apply_targets
    from onevision.train.objectives.table import objective_maker
    from onevision.train.options import RunOptions
    from onevision.train.stage import Stage
    from onevision.train.stages import stage_named
    from onevision.values import apply_settings, split_settings

    for_stage, for_run = split_settings(settings, Stage, RunOptions)
    stage = stage_named(name, model)
    if mixture is not None:
        stage = stage.learning_from(str(mixture))
    stage = apply_settings(stage, for_stage)
    objective_maker(stage.vision_objective)  # raises for an unknown name
    options = make_run_options(for_run)
    return apply_targets(stage, options.lora_targets), options


def _train_tokenizer(output: Path, model: str, mixture: Path | None) -> None:
    """Learns a tokenizer of a model's size from a mixture's texts and the project's own."""
    from itertools import chain

    from onevision.data.mixture import open_mixture
    from onevision.errors import InputError
    from onevision.known_models import ARCHITECTURES
    from onevision.train.vocabulary import corpus, mixture_texts, train_tokenizer

    if model not in ARCHITECTURES:
        raise InputError(f"--model is {model!r}; expected one of {', '.join(ARCHITECTURES)}")
    texts = () if mixture is None else mixture_texts(open_mixture(mixture))

    output.mkdir(parents=True, exist_ok=True)
    definition = train_tokenizer(
        chain(corpus(2000), texts), vocab_size=ARCHITECTURES[model].language.vocab_size
    )
    (output / "tokenizer.json").write_text(definition, encoding="utf-8")
    print(f"wrote {output / 'tokenizer.json'}")


def _target(stage: "Stage", model: str, starts: "Starts") -> "ModelConfig":
    """Returns the architecture to train; says if it is not that of the curriculum."""
    from onevision.errors import InputError
    from onevision.known_models import ARCHITECTURES
    from onevision.train.target import choose_target, describe_difference
    from onevision.values import name_closest

    if model not in ARCHITECTURES:
        raise InputError(f"--model is {model!r}{name_closest(model, ARCHITECTURES)}")
    target = choose_target(stage, ARCHITECTURES[model], starts)
    difference = describe_difference(target, ARCHITECTURES[model])
    if difference and os.environ.get("RANK", "0") == "0":
        typer.echo(
            f"note: the architecture is that of {starts.previous[0]}, rates and data are those of "
            f"{model} ({difference})",
            err=True,
        )
    return target


def _tokenizer(path: Path | None, starts: "Starts") -> "Tokenizer":
    """Returns the given tokenizer, or that of a checkpoint the run begins with."""
    from onevision.errors import InputError

    found = _find_tokenizer(path, starts)
    if found is None:
        raise InputError(
            "--tokenizer is None; give a tokenizer.json, or start from a checkpoint that has one"
        )
    return found


def _find_tokenizer(path: Path | None, starts: "Starts") -> "Tokenizer | None":
    from onevision.cli.options import read_tokenizer

    if path is not None:
        return read_tokenizer(path)
    homes = [d for d in (starts.language_model, *starts.previous) if d is not None]
    found = [d for d in homes if (d / "tokenizer.json").is_file()]
    return read_tokenizer(found[0]) if found else None


def _bundled_tokenizer(model: str) -> "Tokenizer | None":
    from onevision.checkpoint.hub import BUNDLED
    from onevision.cli.options import read_tokenizer

    return read_tokenizer(BUNDLED[model]) if model in BUNDLED else None
