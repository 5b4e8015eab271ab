"""`onevision eval`: the held-out procedural questions, the benchmarks, a comparison of two runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import DeviceOption, DtypeOption, ModelOption, QuantizeOption, load_model
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.eval.statistics import Interval
    from onevision.generate.answer import Model


def evaluate(
    model: ModelOption = "tiny",
    tasks: Annotated[
        str | None,
        typer.Option(help="Benchmarks, groups of them, or task files, with commas; 'list' names."),
    ] = None,
    data: Annotated[str, typer.Option(help="Folder of the benchmarks' data, or 'hub'.")] = "data",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of a benchmark's answers and results; "
            "of the held-out questions, a file of JSON lines.",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="p24: as the paper was evaluated; now: as lmms-eval does in 2026.")
    ] = "p24",
    batch_size: Annotated[int, typer.Option(help="Questions of a benchmark asked at once.")] = 4,
    limit: Annotated[int | None, typer.Option(help="Ask the first rows of a task alone.")] = None,
    seed: Annotated[int, typer.Option(help="Of answers that are drawn.")] = 0,
    score_only: Annotated[bool, typer.Option("--score-only", help="Ask nothing.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two --output folders to compare.")
    ] = None,
    count: Annotated[int, typer.Option(help="Held-out questions a scenario.")] = 600,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Default the three of the paper; also words, charts.")
    ] = None,
    blind: Annotated[bool, typer.Option(help="Also ask about grey media.")] = True,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
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
            raise InputError("--score-only scores a benchmark's answers; name it with --tasks")
        loaded = load_model(model, device=device, dtype=dtype, quantize=quantize)
        ask_heldout(loaded, scenario, count=count, blind=blind, output=output)
    else:
        from onevision.cli.benchmarks import Benchmarks

        chosen = Benchmarks.chosen(tasks, profile=profile, output=output)
        if score_only:
            chosen.score()
        else:
            asking = chosen.asking(batch_size=batch_size, limit=limit, seed=seed)
            chosen.open(data)  # what is missing is said before a model is loaded
            loaded = load_model(model, device=device, dtype=dtype, quantize=quantize)
            chosen.run(loaded, asking=asking, name=model)


def ask_heldout(
    model: "Model", scenarios: list[str] | None, *, count: int, blind: bool, output: Path | None
) -> None:
    """Ask the held-out questions, print how many are right, and write the answers."""
    from onevision.eval.heldout import SCENARIOS, run_heldout

    records = []
    for name in scenarios or SCENARIOS:
        results = {kind: run_heldout(model, name, count=count, blind=kind == "blind")
                   for kind in (("sighted", "blind") if blind else ("sighted",))}  # fmt: skip
        said = ", ".join(f"{kind} {percent(r.interval)}" for kind, r in results.items())
        print(f"{name}: {said} of {count} questions")
        sighted = results["sighted"]
        families = sighted.intervals_by_family()
        for family, (right, asked) in sorted(sighted.by_family().items()):
            print(f"    {family:<18} {right:>4} / {asked:<4} {percent(families[family]):>24}")
        records += [record for r in results.values() for record in r.records()]
    if output is not None:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        output.write_text("".join(lines), encoding="utf-8")


def percent(interval: "Interval") -> str:
    """Write a share with its 95 % interval: "60.7 % (56.8 to 64.5)"."""
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
