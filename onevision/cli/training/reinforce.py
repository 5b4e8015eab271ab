"""`onevision reinforce`: a model answers, rewards are computed, the model learns (GRPO)."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import refuse_options
from onevision.cli.training import options as given

if TYPE_CHECKING:
    from onevision.eval.judging.judge import Judge
    from onevision.train.config import TrainConfig

PromptsArgument = Annotated[
    Path,
    typer.Argument(help="JSON lines with id, image or video, prompt, type, answer."),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(help="The model that rewards answers of type judge; $ONEVISION_JUDGE_MODEL."),
]
JudgeUrlOption = Annotated[
    str | None, typer.Option(help="Its OpenAI-compatible URL; by default $ONEVISION_JUDGE_URL.")
]
# The options that only a plan heeds, and those that only a run does.
OF_PLANS = {"devices", "device_kind", "price"}
OF_RUNS = {"allow_change", "tensorboard", "wandb", "judge", "judge_url", "peak_tflops"}
JUDGE = "judge"


def reinforce(
    context: typer.Context,
    prompts: PromptsArgument,
    start: Annotated[str, typer.Option("--from", help="'tiny', a checkpoint, or a hub id.")],
    output: given.OutputOption,
    root: given.RootOption = None,
    judge: JudgeOption = None,
    judge_url: JudgeUrlOption = None,
    settings: given.SetOption = None,
    plan: given.PlanOption = False,
    devices: given.DevicesOption = 1,
    device_kind: given.DeviceKindOption = "h100",
    price: given.PriceOption = None,
    allow_change: given.AllowChangeOption = None,
    peak_tflops: given.PeakOption = None,
    tensorboard: given.TensorBoardOption = False,
    wandb: given.WandbOption = None,
) -> None:
    """Learn from rewards for its own answers (GRPO), or resume a run; see docs/reinforce.md.

    The judge's key is read from $ONEVISION_JUDGE_KEY or $OPENAI_API_KEY.
    """
    from onevision.cli.training.run import train_and_show
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.train.reinforce.objective import make_reinforce
    from onevision.train.start import Starts, find_start

    odd = OF_RUNS if plan else OF_PLANS
    refuse_options(context, odd, use="a plan" if plan else "a run without --plan")
    checkpoint = find_start(start)
    tokenizer = Tokenizer.from_directory(checkpoint)
    told = given.with_options(settings, peak_tflops=peak_tflops)
    if plan and device_kind != "cpu":
        told = ["device=cuda", *(one for one in told if not one.startswith("device="))]
    config = _configure(prompts, checkpoint, tokenizer.name, told)
    if plan:
        from onevision.cli.training.reinforce_plan import print_reinforce_plan

        print_reinforce_plan(
            config, tokenizer, root=root, devices=devices, kind=device_kind, price=price
        )
        return
    train_and_show(
        config,
        tokenizer,
        Starts(previous=(checkpoint,)),
        output,
        make_objective=partial(
            make_reinforce, media_root=root, judge=_find_judge(judge, judge_url, output)
        ),
        allow_change=allow_change or [],
        tensorboard=tensorboard,
        wandb=wandb,
    )


def _configure(
    prompts: Path, checkpoint: Path, tokenizer: str | None, told: list[str]
) -> "TrainConfig":
    """Returns the settings of a run, as `--set` changes them. Raises ConfigError."""
    from onevision.checkpoint.load import inspect
    from onevision.train.config import TrainConfig, make_run_options
    from onevision.train.lora.targets import apply_targets
    from onevision.train.options import RunOptions
    from onevision.train.reinforce.config import ReinforceConfig
    from onevision.train.stage import Stage
    from onevision.train.stages import REINFORCE
    from onevision.values import apply_settings, split_settings

    for_stage, for_run, for_rewards = split_settings(told, Stage, RunOptions, ReinforceConfig)
    options = make_run_options(for_run)
    stage = apply_settings(REINFORCE.learning_from(str(prompts)), for_stage)
    return TrainConfig(
        stage=apply_targets(stage, options.lora_targets),
        target=inspect(checkpoint).config,
        options=options,
        reinforce=apply_settings(ReinforceConfig(), for_rewards),
        starts=(str(checkpoint),),
        tokenizer=tokenizer,
    )


def _find_judge(name: str | None, url: str | None, output: Path) -> "Judge | None":
    """Returns the judge that is named, which remembers its replies in the run's directory."""
    from onevision.endpoint import EndpointConfig
    from onevision.errors import InputError
    from onevision.eval.judging.judge import Judge
    from onevision.train.preference.critic import check_critic

    if name is None and url is None:
        return None
    known = {"ONEVISION_JUDGE_MODEL": name, "ONEVISION_JUDGE_URL": url}
    told = {**os.environ, **{key: value for key, value in known.items() if value}}
    if missing := [key for key in known if key not in told]:
        raise InputError(f"a judge needs --judge and --judge-url; {missing[0]} is not set either")
    config = EndpointConfig.from_environment(told)
    check_critic(config)
    return Judge(config, memory=output / JUDGE)
