"""`onevision dpo`: learn from pairs of answers which one is better."""

from functools import partial
from typing import Annotated

import typer

from onevision.cli.training import options as given


def dpo(
    preferences: given.PreferencesArgument,
    start: Annotated[str, typer.Option("--from", help="'tiny', a checkpoint, or a hub id.")],
    output: given.OutputOption,
    root: given.RootOption = None,
    settings: given.SetOption = None,
    allow_change: given.AllowChangeOption = None,
    peak_tflops: given.PeakOption = None,
    tensorboard: given.TensorBoardOption = False,
    wandb: given.WandbOption = None,
) -> None:
    """Make chosen answers likelier than rejected ones (DPO), or resume a run that does."""
    from onevision.checkpoint.load import inspect
    from onevision.cli.training.run import train_and_show
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.config import TrainConfig, make_run_options
    from onevision.train.lora.targets import apply_targets
    from onevision.train.options import RunOptions
    from onevision.train.preference.loss import PreferenceConfig
    from onevision.train.preference.objective import make_preference
    from onevision.train.stage import Stage
    from onevision.train.stages import DPO
    from onevision.train.start import Starts, find_start
    from onevision.values import apply_settings, split_settings

    told = given.with_options(settings, peak_tflops=peak_tflops)
    for_stage, for_run, for_preference = split_settings(told, Stage, RunOptions, PreferenceConfig)
    options = make_run_options(for_run)
    stage = apply_settings(DPO.learning_from(str(preferences)), for_stage)
    checkpoint = find_start(start)
    tokenizer = Tokenizer.from_directory(checkpoint)
    train_and_show(
        TrainConfig(
            stage=apply_targets(stage, options.lora_targets),
            target=inspect(checkpoint).config,
            options=options,
            preference=apply_settings(PreferenceConfig(), for_preference),
            starts=(str(checkpoint),),
            tokenizer=tokenizer.name,
        ),
        tokenizer,
        Starts(previous=(checkpoint,)),
        output,
        make_objective=partial(make_preference, media_root=root),
        allow_change=allow_change or [],
        tensorboard=tensorboard,
        wandb=wandb,
    )
