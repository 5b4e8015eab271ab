"""`onevision eval`: benchmarks, own records, held-out questions, a comparison of two runs."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.evaluation.judges import (
    JudgeModelOption,
    JudgeOption,
    JudgePricesOption,
    RoundsOption,
    open_panel,
    refuse_judge_options,
)
from onevision.cli.options import (
    AdapterOption,
    DeviceOption,
    DevicesOption,
    DtypeOption,
    KeepOption,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    check_output,
    load_model,
    refuse_options,
    refuse_unheeded,
)
from onevision.conversation import check_keep
from onevision.errors import InputError
from onevision.files import write_text
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.eval.statistics import Interval
    from onevision.generate.answer import Model


TasksOption = Annotated[
    str | None,
    typer.Option(help="Benchmarks, groups, task files, separated by commas; 'list' lists them."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="With --tasks, the folder with the benchmarks' data (default 'data'), or 'hub'. "
        "Without, your own records: LLaVA JSON, JSONL, Parquet, a mixture, ..."
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for answers and results; for the held-out questions, a file of JSON lines.",
    ),
]
ProfileOption = Annotated[
    str, typer.Option(help="p24: as the paper was evaluated; now: as lmms-eval does in 2026.")
]
LimitOption = Annotated[int | None, typer.Option(help="Ask only the first rows of each task.")]
ScoreOnlyOption = Annotated[
    bool, typer.Option("--score-only", help="Score the answers there are; load no model.")
]
CompareOption = Annotated[
    tuple[Path, Path] | None, typer.Option(help="Compare two --output folders.")
]
ScenarioOption = Annotated[
    list[str] | None,
    typer.Option(help="Default: the paper's three; also words, charts, a world's name, worlds."),
]
CountOption = Annotated[
    int | None,
    typer.Option(help="Held-out questions per scenario (default: all, 600, or 300 a world)."),
]
OutsideOption = Annotated[
    Path | None,
    typer.Option(
        help="A folder of pictures and videos outside the model's world: how often it says "
        "that it cannot tell, and how often nonsense."
    ),
]
TurnsOption = Annotated[
    str, typer.Option(help="Own data: ask for the last answer of each record, or for each.")
]
ScorerOption = Annotated[
    str, typer.Option(help="Own data: a scorer of docs/evaluation.md in place of the usual ones.")
]
TemperatureOption = Annotated[
    float | None, typer.Option(help="Sample all answers, instead of as each task says.")
]
RepeatOption = Annotated[
    int, typer.Option(help="Ask everything so often, with other seeds: mean and deviation.")
]
MaxFailedOption = Annotated[
    float,
    typer.Option(help="Share of rows that may have a damaged image or too long a prompt."),
]

# The options that each use of the command heeds.
OF_MODELS = {
    *("model", "device", "devices", "dtype", "quantize", "adapter", "verify", "output", "keep"),
}
OF_ASKING = {"batch_size", "limit", "seed", "temperature", "repeat", "quantize", "keep"}
OF_JUDGES = {"judge_model", "judge_prices", "rounds"}
OF_QUESTIONS = {
    *("data", "batch_size", "limit", "seed", "temperature", "repeat", "max_failed", "score_only"),
    *("judge", *OF_JUDGES),
}
HEEDED = {
    "--compare": {"compare"},
    "--outside": OF_MODELS - {"keep"} | {"outside"},
    "--tasks list": {"tasks", "profile"},
    "benchmarks": OF_MODELS | OF_QUESTIONS | {"tasks", "profile"},
    "own records": OF_MODELS | OF_QUESTIONS | {"turns", "scorer", "max_new_tokens"},
    "the held-out questions (give --tasks or --data for others)": (
        OF_MODELS | {"count", "scenario", "blind"}
    ),
}


def evaluate(
    context: typer.Context,
    model: ModelOption = "tiny",
    tasks: TasksOption = None,
    data: DataOption = None,
    output: OutputOption = None,
    profile: ProfileOption = "p24",
    batch_size: Annotated[int, typer.Option(help="Questions per batch.")] = 4,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option(help="Seed of sampled answers.")] = 0,
    temperature: TemperatureOption = None,
    repeat: RepeatOption = 1,
    max_failed: MaxFailedOption = 0.05,
    score_only: ScoreOnlyOption = False,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    judge_prices: JudgePricesOption = None,
    rounds: RoundsOption = 1,
    turns: TurnsOption = "last",
    scorer: ScorerOption = "own",
    max_new_tokens: Annotated[int, typer.Option(help="Own data: tokens of an answer.")] = 256,
    compare: CompareOption = None,
    outside: OutsideOption = None,
    count: CountOption = None,
    scenario: ScenarioOption = None,
    blind: Annotated[bool, typer.Option(help="Also ask about grey media.")] = True,
    keep: KeepOption = None,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    verify: VerifyOption = True,
) -> None:
    """Evaluate a model on benchmarks (--tasks), own records (--data), or held-out questions."""
    check_options(context, tasks=tasks, data=data, judges=judge or ())
    if compare is not None or tasks == "list":
        return show(compare, profile=profile)
    load = partial(load_model, model, device=device, dtype=dtype, quantize=quantize,
                   adapter=adapter, verify=verify, devices=devices)  # fmt: skip
    if tasks is None and data is None:
        return ask_fixed(load, scenario, outside, count=count, blind=blind, output=output,
                         keep=keep)  # fmt: skip
    from onevision.cli.evaluation import benchmarks, own_data

    name = model if adapter is None else f"{model} + {adapter}"
    config = benchmarks.make_config(profile, batch_size, limit, seed, max_failed, keep=keep)
    if tasks is None:
        chosen = own_data.open_own_data(
            Path(data or ""), output=output, model=name, turns=turns, scorer=scorer,
            max_new_tokens=max_new_tokens, temperature=temperature, max_failed=max_failed,
        )  # fmt: skip
    else:
        chosen = benchmarks.select(tasks, config.profile, output=output, temperature=temperature)
        chosen.open(data or "data", judged=bool(judge), score_only=score_only)
    chosen.check(repeats=repeat)
    if judge:
        chosen.panel = open_panel(judge, chosen.output, model=judge_model, prices=judge_prices,
                                  rounds=rounds, device=device, dtype=dtype)  # fmt: skip
    return chosen.score() if score_only else chosen.run(load(), config, name, repeats=repeat)


def show(compare: tuple[Path, Path] | None, *, profile: str) -> None:
    """Print a comparison of two folders, or else the tasks."""
    from onevision.cli.evaluation.benchmarks import show_comparison, show_tasks

    if compare is not None:
        show_comparison(*compare)
    else:
        show_tasks(profile)


def check_options(
    context: typer.Context,
    *,
    tasks: str | None,
    data: str | None,
    judges: Sequence[str],
) -> None:
    """Refuses options that this use of the command does not heed. Raises InputError."""
    check_keep(context.params["keep"])
    comparison, outside, listing, benchmarks, own_records, heldout = HEEDED
    if context.params["compare"] is not None:
        use = comparison
    elif context.params["outside"] is not None:
        use = outside
    elif tasks is not None:
        use = listing if tasks == "list" else benchmarks
    else:
        use = heldout if data is None else own_records
    refuse_unheeded(context, HEEDED[use], use=use)
    score_only = context.params["score_only"] is True
    if score_only:
        refuse_options(context, OF_ASKING, use="answers that are there (--score-only)")
    if judges:
        refuse_judge_options(context, judges, devices=score_only)
    else:
        refuse_options(context, OF_JUDGES, use="a run without --judge")


def ask_fixed(
    load: "Callable[[], Model]",
    scenarios: list[str] | None,
    outside: Path | None,
    *,
    count: int | None,
    blind: bool,
    output: Path | None,
    keep: float | None,
) -> None:
    """Ask about media outside a model's world, or else the held-out questions."""
    if outside is not None:
        from onevision.cli.evaluation.outside import ask_about_outside

        return ask_about_outside(load, outside, output=output)
    check_heldout(scenarios, count=count, output=output)
    return ask_heldout(load(), scenarios, count=count, blind=blind, output=output, keep=keep)


def check_heldout(scenarios: list[str] | None, *, count: int | None, output: Path | None) -> None:
    """Refuses what would fail once the model is loaded, or has answered. Raises InputError."""
    from onevision.eval.heldout import expand_scenarios, heldout_questions

    if count is not None and count < 1:
        raise InputError(f"--count is {count}; expected 1 or more")
    for name in expand_scenarios(scenarios or ()):
        next(heldout_questions(name, count=1))
    if output is not None:
        check_output(output)


def ask_heldout(
    model: "Model",
    scenarios: list[str] | None,
    *,
    count: int | None,
    blind: bool,
    output: Path | None,
    keep: float | None,
) -> None:
    """Ask the held-out questions, print the accuracy, and write the answers."""
    from onevision.eval.heldout import SCENARIOS, expand_scenarios, is_as_fixed, run_heldout

    records = []
    share = keep or 1.0
    for name in expand_scenarios(scenarios or SCENARIOS):
        results = {kind: run_heldout(model, name, count=count, blind=kind == "blind", keep=share)
                   for kind in (("sighted", "blind") if blind else ("sighted",))}  # fmt: skip
        shares = ", ".join(f"{kind} {format_share(r.interval)}" for kind, r in results.items())
        sighted = results["sighted"]
        print(f"{name}: {shares} of {counted(len(sighted.items), 'question')}")
        if not is_as_fixed(sighted):
            print(f"warning: {name}: these are not the questions that were fixed", file=sys.stderr)
        families = sighted.intervals_by_family()
        for family, (right, asked) in sorted(sighted.by_family().items()):
            print(f"    {family:<18} {right:>4} / {asked:<4} {format_share(families[family]):>24}")
        records += [record for r in results.values() for record in r.records()]
    if output is not None:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_text(output, "".join(lines))


def format_share(interval: "Interval") -> str:
    """Format a share with its 95 % interval: "60.7 % (56.8 to 64.5)"."""
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
