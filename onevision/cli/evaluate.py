"""`onevision eval`: the held-out procedural questions, the benchmarks, a comparison of two runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import (
    AdapterOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    check_output,
    load_model,
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
DataOption = Annotated[str, typer.Option(help="Folder with the benchmarks' data, or 'hub'.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the benchmarks' answers and results; "
        "for the held-out questions, a file of JSON lines.",
    ),
]
ProfileOption = Annotated[
    str, typer.Option(help="p24: as the paper was evaluated; now: as lmms-eval does in 2026.")
]
LimitOption = Annotated[int | None, typer.Option(help="Ask only the first rows of each task.")]
ScoreOnlyOption = Annotated[
    bool, typer.Option("--score-only", help="Score the answers there are; load no model.")
]
JudgeOption = Annotated[
    bool,
    typer.Option(
        "--judge", help="Have the model at ONEVISION_JUDGE_URL, _MODEL, _KEY score free answers."
    ),
]
CompareOption = Annotated[
    tuple[Path, Path] | None, typer.Option(help="Compare two --output folders.")
]
ScenarioOption = Annotated[
    list[str] | None, typer.Option(help="Default: the paper's three; also words, charts.")
]


def evaluate(
    model: ModelOption = "tiny",
    tasks: TasksOption = None,
    data: DataOption = "data",
    output: OutputOption = None,
    profile: ProfileOption = "p24",
    batch_size: Annotated[int, typer.Option(help="Benchmark questions per batch.")] = 4,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option(help="Seed of sampled answers.")] = 0,
    score_only: ScoreOnlyOption = False,
    judge: JudgeOption = False,
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
    """Ask the held-out questions and report exact match; with --tasks, run benchmarks."""
    if compare is not None:
        from onevision.cli.benchmarks import show_comparison

        show_comparison(*compare)
    elif tasks == "list":
        from onevision.cli.benchmarks import show_tasks

        show_tasks(profile)
    elif tasks is None:
        if score_only:
            raise InputError("--score-only scores benchmarks; name them with --tasks")
        check_heldout(scenario, count=count, output=output)
        loaded = load_model(
            model, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify
        )
        ask_heldout(loaded, scenario, count=count, blind=blind, output=output)
    else:
        from onevision.cli.benchmarks import Benchmarks

        chosen = Benchmarks.select(tasks, profile=profile, output=output, judged=judge)
        if score_only:
            chosen.open_for_judge(data)
            chosen.score()
        else:
            config = chosen.config(batch_size=batch_size, limit=limit, seed=seed)
            chosen.open(data)  # missing data are reported before a model is loaded
            loaded = load_model(
                model, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify
            )
            chosen.run(loaded, config=config, name=model)


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
