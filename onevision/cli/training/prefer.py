"""`onevision prefer`: a model answers, a critic scores, the model learns which is better."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import refuse_options
from onevision.cli.training import options

if TYPE_CHECKING:
    from onevision.endpoint import EndpointConfig
    from onevision.train.preference.critic import LocalCritic
    from onevision.train.preference.rounds import Rounds

CLEAR = "\r\x1b[K"  # of the terminal's line
PromptsArgument = Annotated[
    Path, typer.Argument(help="JSON lines with id, image or video (a path, or a list), prompt.")
]
CriticOption = Annotated[
    str | None,
    typer.Option(
        help="The model that scores: a checkpoint directory or hub id, run here; or, behind an "
        "address, its name there; by default $ONEVISION_JUDGE_MODEL."
    ),
]
CriticUrlOption = Annotated[
    str | None, typer.Option(help="Its OpenAI-compatible URL; by default $ONEVISION_JUDGE_URL.")
]
LearnOption = Annotated[
    bool, typer.Option(help="--no-learn stops once a round's pairs are written.")
]


def prefer(
    context: typer.Context,
    prompts: PromptsArgument,
    start: Annotated[str, typer.Option("--from", help="'tiny', a checkpoint, or a hub id.")],
    output: options.OutputOption,
    critic: CriticOption = None,
    critic_url: CriticUrlOption = None,
    root: options.RootOption = None,
    learn: LearnOption = True,
    settings: options.SetOption = None,
    allow_change: options.AllowChangeOption = None,
    peak_tflops: options.PeakOption = None,
) -> None:
    """Sample answers, let a critic score them, learn from best and worst (DPO); in three rounds.

    The critic's key is read from $ONEVISION_JUDGE_KEY or $OPENAI_API_KEY. --set takes keys of the
    rounds (num_rounds, num_answers, temperature, top_p, max_new_tokens, prompts_at_once,
    critic_prompt), of the run and of the stage, and beta and sft_weight.
    """
    from onevision.checkpoint.hub import resolve
    from onevision.train.config import make_run_options
    from onevision.train.lora.targets import apply_targets
    from onevision.train.options import RunOptions
    from onevision.train.preference.candidates import RoundsConfig
    from onevision.train.preference.loss import PreferenceConfig
    from onevision.train.preference.rounds import Rounds
    from onevision.train.stage import Stage
    from onevision.train.stages import DPO
    from onevision.values import apply_settings, split_settings

    if not learn:
        refuse_options(context, {"peak_tflops"}, use="a run with --no-learn")
    told = options.with_options(settings, peak_tflops=peak_tflops)
    kinds = split_settings(told, RoundsConfig, Stage, RunOptions, PreferenceConfig)
    run_options = make_run_options(kinds[2])
    rounds = Rounds(
        start=resolve(start),
        prompts=prompts,
        output=output,
        critic=_find_critic(critic, critic_url),
        root=root,
        config=apply_settings(RoundsConfig(), kinds[0]),
        stage=apply_targets(apply_settings(DPO, kinds[1]), run_options.lora_targets),
        options=run_options,
        preference=apply_settings(PreferenceConfig(), kinds[3]),
        learns=learn,
        allow_change=allow_change or [],
    )
    _run_and_show(rounds)


def _find_critic(name: str | None, url: str | None) -> "EndpointConfig | LocalCritic":
    """Returns the critic: a checkpoint that runs here, or a model behind an address.

    What is a directory, or the id of weights on the hub where no address is known, runs here.
    Raises ConfigError, ModelNotFoundError.
    """
    from onevision.checkpoint.hub import BUNDLED, resolve
    from onevision.endpoint import EndpointConfig
    from onevision.train.preference.critic import LocalCritic

    has_address = bool(url or os.environ.get("ONEVISION_JUDGE_URL"))
    if name is not None and url is None:
        is_here = name in BUNDLED or Path(name).is_dir()
        if is_here or ("/" in name and not has_address):
            return LocalCritic(model=name, path=resolve(name))
    named = {"ONEVISION_JUDGE_MODEL": name, "ONEVISION_JUDGE_URL": url}
    return EndpointConfig.from_environment(
        {**os.environ, **{key: value for key, value in named.items() if value}}
    )


def _run_and_show(rounds: "Rounds") -> None:
    """Runs the rounds, shown on the terminal, and exits with the command's code."""
    from rich.console import Console

    from onevision.train.preference.rounds import RoundsCallbacks, run_rounds
    from onevision.train.report.display import ProgressDisplay
    from onevision.train.report.journal import Callbacks

    console = Console(stderr=True)
    with ProgressDisplay(console) as display:
        run_callbacks = Callbacks(
            on_step=display.show,
            on_warning=lambda text: console.print(f"warning: {text}", soft_wrap=True, markup=False),
        )
        callbacks = RoundsCallbacks(
            on_message=_print_message, on_progress=_show_progress, run=run_callbacks
        )
        result = run_rounds(rounds, callbacks)
    if result.checkpoint is not None:
        print(f"wrote {result.checkpoint}")
    elif rounds.learns:
        console.print(
            f"stopped; run the same command again to resume ({rounds.output})", markup=False
        )
        sys.exit(result.exit_code)


def _print_message(text: str) -> None:
    if sys.stderr.isatty():
        print(CLEAR, end="", file=sys.stderr, flush=True)
    print(text)


def _show_progress(text: str) -> None:
    """Shows progress, only on a terminal."""
    if sys.stderr.isatty():
        print(f"{CLEAR}{text}", end="", file=sys.stderr, flush=True)
