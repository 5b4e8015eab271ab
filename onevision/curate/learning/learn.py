"""A checkpoint and a mixture -> a checkpoint that has learned from it, by one stage again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onevision.checkpoint.load import inspect
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ARCHITECTURES
from onevision.train.config import TrainConfig, make_run_options
from onevision.train.directory import RunDirectory
from onevision.train.options import RunOptions
from onevision.train.origin import read_origin
from onevision.train.report.journal import Callbacks
from onevision.train.run import run_stage
from onevision.train.stage import Stage
from onevision.train.stages import stage_named
from onevision.train.start import Starts
from onevision.train.target import choose_model, choose_target
from onevision.values import apply_settings, split_settings

STAGE = "knowledge"


def plan_learning(start: Path, mixture: Path, *, settings: Sequence[str]) -> TrainConfig:
    """Returns the knowledge stage of a checkpoint's curriculum, over a mixture.

    It begins with the checkpoint, whichever stage made it, and keeps how it reads pictures. Raises
    ConfigError, CheckpointError.
    """
    for_stage, for_run = split_settings(settings, Stage, RunOptions)
    starts, model = Starts(previous=(start,)), choose_model((start,))
    made_by = read_origin(start)
    stage = replace(
        stage_named(STAGE, model).learning_from(str(mixture.resolve())),
        resolution="target",
        starts_from=(made_by,) if made_by else (),
    )
    stage = apply_settings(stage, for_stage)
    return TrainConfig(
        stage=stage,
        target=choose_target(stage, ARCHITECTURES[model], starts),
        options=make_run_options(for_run),
        starts=(str(start),),
        tokenizer=Tokenizer.from_directory(inspect(start).texts).name,
    )


def learn(
    start: Path,
    mixture: Path,
    output: Path,
    *,
    settings: Sequence[str],
    callbacks: Callbacks | None = None,
) -> Path | None:
    """Trains, or resumes; returns the checkpoint, None if the run was stopped.

    Raises as `run_stage` does.
    """
    run = RunDirectory(output)
    if run.checkpoint.is_dir():
        return run.checkpoint
    config = plan_learning(start, mixture, settings=settings)
    result = run_stage(
        config,
        tokenizer=Tokenizer.from_directory(inspect(start).texts),
        starts=Starts(previous=(start,)),
        output=output,
        callbacks=callbacks,
    )
    return result.checkpoint
