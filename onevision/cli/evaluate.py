"""`onevision eval`: accuracy on the held-out procedural questions."""

import json
from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import DeviceOption, DtypeOption, ModelOption, load_model


def evaluate(
    model: ModelOption = "tiny",
    count: Annotated[int, typer.Option(help="Questions a scenario.")] = 600,
    scenario: Annotated[
        list[str] | None, typer.Option(help="single_image, multi_image, video; default all.")
    ] = None,
    blind: Annotated[bool, typer.Option(help="Also ask about grey media.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON lines of answers.")
    ] = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
) -> None:
    """Ask the held-out questions and report exact match, beside a blind baseline."""
    from onevision.eval.heldout import SCENARIOS
    from onevision.eval.runner import run_heldout

    loaded = load_model(model, device=device, dtype=dtype)
    records = []
    for name in scenario or SCENARIOS:
        results = {kind: run_heldout(loaded, name, count=count, blind=kind == "blind")
                   for kind in (("sighted", "blind") if blind else ("sighted",))}  # fmt: skip
        said = ", ".join(f"{kind} {100 * r.accuracy:.1f} %" for kind, r in results.items())
        print(f"{name}: {said} of {count} questions")
        for family, (right, asked) in sorted(results["sighted"].by_family().items()):
            print(f"    {family:<18} {right:>4} / {asked:<4} {100 * right / asked:5.1f} %")
        records += [record for r in results.values() for record in r.records()]
    if output is not None:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        output.write_text("".join(lines), encoding="utf-8")
