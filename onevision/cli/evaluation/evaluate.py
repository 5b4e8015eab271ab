"""`onevision eval`: benchmarks, own records, held-out questions, a comparison of two runs."""

import json
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
)
from onevision.cli.options import (
    AdapterOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    check_output,
    load_model,
    refuse_unheeded,
)
from onevision.errors import InputError
from onevision.files import write_text

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
    list[str] | None, typer.Option(help="Default: the paper's three; also words, charts.")
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
OF_MODELS = {"model", "device", "dtype", "quantize", "adapter", "verify", "output"}
OF_JUDGES = {"judge_model", "judge_prices", "rounds"}
OF_QUESTIONS = {
    *("data", "batch_size", "limit", "seed", "temperature", "repeat", "max_failed", "score_only"),
    *("judge", *OF_JUDGES),
}
HEEDED = {
    "--compare": {"compare"},
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
    count: Annotated[int, typer.Option(help="Held-out questions per scenario.")] = 600,
    scenario: ScenarioOption = None,
    blind: Annotated[bool, typer.Option(help="Also ask about grey media.")] = True,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    verify: VerifyOption = True,
) -> None:
    """Evaluate a model: --tasks runs benchmarks, --data your own records.

    Without either, asks the held-out procedural questions and reports exact match.
    """
    check_options(context, compare=compare is not None, tasks=tasks, data=data, judge=bool(judge))
    if compare is not None or tasks == "list":
        return show(compare, profile=profile)
    load = partial(load_model, model, device=device, dtype=dtype, quantize=quantize,
                   adapter=adapter, verify=verify)  # fmt: skip
    if tasks is None and data is None:
        check_heldout(scenario, count=count, output=output)
        return ask_heldout(load(), scenario, count=count, blind=blind, output=output)
    from onevision.cli.evaluation import benchmarks, own_data

    name = model if adapter is None else f"{model} + {adapter}"
    config = benchmarks.make_config(profile, batch_size, limit, seed, max_failed)
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
    context: typer.Context, *, compare: bool, tasks: str | None, data: str | None, judge: bool
) -> None:
    """Refuses options that this use of the command does not heed. Raises InputError."""
    comparison, listing, benchmarks, own_records, heldout = HEEDED
    if compare:
        use = comparison
    elif tasks is not None:
        use = listing if tasks == "list" else benchmarks
    else:
        use = heldout if data is None else own_records
    refuse_unheeded(context, HEEDED[use], use=use)
    if not judge:
        refuse_unheeded(context, HEEDED[use] - OF_JUDGES, use="a run without --judge")


def check_heldout(scenarios: list[str] | None, *, count: int, output: Path | None) -> None:
    """Refuses what would fail once the model is loaded, or has answered. Raises InputError."""
    from onevision.eval.heldout import heldout_questions

    if count < 1:
        raise InputError(f"--count is {count}; expected 1 or more")
    for name in scenarios or ():
        next(heldout_questions(name, count=1))
    if output is not None:
        check_output(output)


def ask_heldout(
    model: "Model", scenarios: list[str] | None, *, count: int, blind: bool, output: Path | None
) -> None:
    """Ask the held-out questions, print the accuracy, and write the answers."""
    from onevision.eval.heldout import SCENARIOS, run_heldout

    records = []
    for name in scenarios or SCENARIOS:
        results = {kind: run_heldout(model, name, count=count, blind=kind == "blind")
                   for kind in (("sighted", "blind") if blind else ("sighted",))}  # fmt: skip
        shares = ", ".join(f"{kind} {format_share(r.interval)}" for kind, r in results.items())
        print(f"{name}: {shares} of {count} questions")
        sighted = results["sighted"]
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
