"""`onevision dpo`: learn from pairs of answers which one is better."""

from functools import partial
from typing import Annotated

import typer

from onevision.cli import train_options as options


def dpo(
    preferences: options.PreferencesArgument,
    start: Annotated[str, typer.Option("--from", help="'tiny', a checkpoint, or a hub id.")],
    output: options.OutputOption,
    root: options.RootOption = None,
    settings: options.SetOption = None,
    allow_change: options.AllowChangeOption = None,
    peak_tflops: options.PeakOption = None,
    tensorboard: options.TensorBoardOption = False,
    wandb: options.WandbOption = None,
) -> None:
    """Make chosen answers likelier than rejected ones (DPO), or go on where it was stopped."""
    from onevision.checkpoint.hub import resolve
    from onevision.checkpoint.load import inspect
    from onevision.cli.train_run import carry_out
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.options import RunOptions
    from onevision.train.preference.feed import open_feed
    from onevision.train.preference.loss import PreferenceConfig
    from onevision.train.preference.run import PreferenceRun
    from onevision.train.settings import Settings, run_options
    from onevision.train.stage import Stage
    from onevision.train.stages import DPO
    from onevision.train.start import Starts
    from onevision.values import apply_settings, split_settings

    told = options.with_options(settings, peak_tflops=peak_tflops)
    kinds = split_settings(told, Stage, RunOptions, PreferenceConfig)
    stage = apply_settings(DPO.learning_from(str(preferences)), kinds[0])
    run_options, preference = (
        run_options(kinds[1]),
        apply_settings(PreferenceConfig(), kinds[2]),
    )
    checkpoint = resolve(start)
    target, words = inspect(checkpoint).config, Tokenizer.from_directory(checkpoint)

    carry_out(
        Settings(
            stage=stage,
            target=target,
            options=run_options,
            preference=preference,
            starts=(str(checkpoint),),
            tokenizer=words.name,
        ),
        words,
        Starts(previous=(checkpoint,)),
        output,
        make_feed=partial(
            open_feed,
            path=preferences,
            root=root,
            max_positions=target.language.max_positions,
            seed=run_options.seed,
        ),
        allow_change=allow_change or [],
        tensorboard=tensorboard,
        wandb=wandb,
        kind=PreferenceRun,
    )
