"""The options that name judges, and the panel they make."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import is_address, load_model, refuse_options
from onevision.errors import InputError
from onevision.plural import counted
from onevision.values import name_closest

if TYPE_CHECKING:
    from onevision.eval.judging.judge import Judge, JudgePrices
    from onevision.eval.judging.panel import Panel

# Where judges' replies are remembered, below --output.
JUDGE_MEMORY = "judge-replies"

JudgeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Model that grades free answers: 'tiny', a checkpoint directory or hub id, run here; "
        "or the URL of an OpenAI-compatible endpoint. Several are averaged."
    ),
]
JudgeModelOption = Annotated[
    str | None,
    typer.Option(
        help="The endpoint's name for the model; default ONEVISION_JUDGE_MODEL, or the only one."
    ),
]
JudgePricesOption = Annotated[
    str | None, typer.Option(help="Price per million tokens in and out, such as 2.5,10.")
]
RoundsOption = Annotated[
    int, typer.Option(help="Judge the same answers so often; reports mean and deviation.")
]


def refuse_judge_options(
    context: typer.Context, judges: Sequence[str], *, devices: bool = True
) -> None:
    """Refuses options that none of the judges heeds. Raises InputError.

    With `devices`, --device and --dtype are of the judges alone.
    """
    if not any(map(is_address, judges)):
        refuse_options(context, {"judge_model"}, use="judges that run here")
    if devices and all(map(is_address, judges)):
        refuse_options(context, {"device", "dtype"}, use="judges behind an address")


def open_panel(
    names: Sequence[str],
    output: Path,
    *,
    model: str | None,
    prices: str | None,
    rounds: int,
    device: str = "cpu",
    dtype: str = "auto",
) -> "Panel":
    """Open the judges: load models, and ask endpoints which model they serve.

    Replies are remembered below `output`.
    The API key is ONEVISION_JUDGE_KEY or OPENAI_API_KEY. Raises InputError, JudgeError.
    """
    from onevision.eval.judging.panel import Panel

    if rounds < 1:
        raise InputError(f"--rounds is {rounds}; expected 1 or more")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InputError(f"--judge {min(repeated)} is given twice; use --rounds 2 to judge twice")
    price, memory = _parse_prices(prices), output / JUDGE_MEMORY
    judges = [
        _open_endpoint(name, memory=memory, model=model, prices=price)
        if is_address(name)
        else _open_local(name, memory=memory, prices=price, device=device, dtype=dtype)
        for name in names
    ]
    return Panel(judges=tuple(judges), num_rounds=rounds)


def print_usage(panel: "Panel") -> None:
    """Print what each judge was asked, and what it cost."""
    for judge in panel.judges:
        usage = judge.usage
        cost = "" if usage.cost is None else f", cost {usage.cost:.4g}"
        uncounted = usage.num_uncounted
        print(
            f"judge {judge.name}: {counted(usage.num_asked, 'query', 'queries')}, "
            f"{usage.num_remembered} remembered, "
            f"{usage.prompt_tokens} tokens in, {usage.completion_tokens} out{cost}"
            + (f"; the tokens of {uncounted} replies are not reported" if uncounted else "")
        )


def _open_endpoint(
    url: str, *, memory: Path, model: str | None, prices: "JudgePrices | None"
) -> "Judge":
    from onevision.endpoint import EndpointConfig, list_models
    from onevision.errors import JudgeError
    from onevision.eval.judging.judge import Judge

    known = model or os.environ.get("ONEVISION_JUDGE_MODEL")
    settings = {**os.environ, "ONEVISION_JUDGE_MODEL": known or "?"}
    config = EndpointConfig.from_environment(settings, base_url=url)
    if known is None:
        served = list_models(config, error=JudgeError)
        if len(served) != 1:
            hint = name_closest("", served)
            raise InputError(
                f"{url} serves {counted(len(served), 'model')}; name one with --judge-model{hint}"
            )
        settings["ONEVISION_JUDGE_MODEL"] = served[0]
        config = EndpointConfig.from_environment(settings, base_url=url)
    return Judge(config, memory=memory, prices=prices)


def _open_local(
    name: str, *, memory: Path, prices: "JudgePrices | None", device: str, dtype: str
) -> "Judge":
    from onevision.eval.benchmark import network_fingerprint
    from onevision.eval.judging.judge import Judge
    from onevision.eval.judging.local import LocalJudge

    loaded = load_model(name, device=device, dtype=dtype)
    local = LocalJudge(loaded, name=name, fingerprint=network_fingerprint(loaded))
    return Judge(local, memory=memory, prices=prices)


def _parse_prices(text: str | None) -> "JudgePrices | None":
    from onevision.eval.judging.judge import JudgePrices

    if text is None:
        return None
    try:
        price_in, price_out = map(float, text.split(","))
    except ValueError as error:
        raise InputError(
            f"--judge-prices is {text!r}; expected two numbers, as in 2.5,10"
        ) from error
    return JudgePrices(per_million_in=price_in, per_million_out=price_out)
