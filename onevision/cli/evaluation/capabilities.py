"""`onevision capabilities`: the nine emerging capabilities; see docs/capabilities.md."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.evaluation.probe import name_model, show_progress
from onevision.cli.options import (
    AdapterOption,
    CheckpointArgument,
    DeviceOption,
    DevicesOption,
    DtypeOption,
    KeepOption,
    QuantizeOption,
    SameModelOption,
    VerifyOption,
    check_output,
    load_model,
    refuse_unheeded,
)
from onevision.commas import split_items
from onevision.conversation import check_keep
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.science.capabilities.results import ExamResults

DEFAULT_COUNT = 150


def capabilities(
    context: typer.Context,
    checkpoint: CheckpointArgument = None,
    model: SameModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of capabilities.md and its answers."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Capabilities, as in 'S3,S8'; default all nine.")
    ] = None,
    count: Annotated[int, typer.Option(help="Questions of each.")] = DEFAULT_COUNT,
    seed: Annotated[int, typer.Option(help="Of samples and questions.")] = 0,
    suffix: Annotated[
        str, typer.Option(help="Said after each question: 'Answer with a single word or phrase.'")
    ] = "",
    report: Annotated[
        bool, typer.Option("--report", help="Only make the page again, in --output.")
    ] = False,
    list_them: Annotated[
        bool, typer.Option("--list", help="List the capabilities and what their arms learn.")
    ] = False,
    keep: KeepOption = None,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    verify: VerifyOption = True,
) -> None:
    """Ask for S1 to S9 in held-out worlds; write the answers, and a page beside baselines."""
    if list_them:
        refuse_unheeded(context, {"list_them"}, use="the list of the capabilities")
        return _list()
    if report:
        refuse_unheeded(context, {"report", "output"}, use="a page made from answers (--report)")
        return _write(_check_folder(output))
    from onevision.science.capabilities.capability import choose_capabilities
    from onevision.science.capabilities.exam import run_exam
    from onevision.science.capabilities.page import FOLDER

    name, folder = name_model(checkpoint, model), _check_folder(output)
    check_keep(keep)
    if count < 1:
        raise InputError(f"--count is {count}; expected 1 or more")
    chosen = choose_capabilities([one.strip() for one in split_items(only or "")], of="--only")
    loaded = load_model(name, device=device, dtype=dtype, quantize=quantize, adapter=adapter,
                        verify=verify, devices=devices)  # fmt: skip
    run_exam(
        loaded, chosen, folder / FOLDER, name=name if adapter is None else f"{name} + {adapter}",
        count=count, seed=seed, suffix=suffix, keep=keep or 1.0, on_progress=show_progress,
    )  # fmt: skip
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return _write(folder)


def _check_folder(output: Path | None) -> Path:
    if output is None:
        raise InputError("the answers need a folder; give --output")
    check_output(output, directory=True)
    return output


def _list() -> None:
    from onevision.science.capabilities.capability import CAPABILITIES

    for name, one in CAPABILITIES.items():
        parts = ", ".join(f"{share:.0%} {family}" for family, share in one.parts.items())
        print(f"{name}  {one.title} ({one.transfer})")
        print(f"    world     {one.world}: {one.asks}")
        print(f"    transfer  learns {parts}; never {one.unseen}")


def _write(folder: Path) -> None:
    from onevision.science.capabilities.page import FOLDER, describe_verdicts, write_page
    from onevision.science.capabilities.results import read_exam

    exam = read_exam(folder / FOLDER)
    _print_results(exam)
    for sentence in describe_verdicts(exam):
        print(sentence)
    print(write_page(folder, warn=lambda text: print(text, file=sys.stderr)))


def _print_results(exam: "ExamResults") -> None:
    for one in exam.results:
        shares = (one.right.value, one.blind.value, one.constant.value)
        right, blind, constant = (f"{100 * share:.0f} %" for share in shares)
        print(
            f"{one.capability.name} {one.capability.title:<44} {right:>5}  grey {blind:>5}  "
            f"constant {constant:>5}  {one.verdict}"
        )
