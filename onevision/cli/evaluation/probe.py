"""`onevision probe`: accuracy as the input leaves the training range; see docs/probes.md."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    refuse_options,
    refuse_unheeded,
)
from onevision.commas import split_items
from onevision.conversation import check_keep
from onevision.errors import InputError

if TYPE_CHECKING:
    from onevision.generate.answer import Model
    from onevision.science.probes.ask import ProbeConfig
    from onevision.science.probes.results import Curve, ProbeResults

DEFAULT_COUNT = 60
PAGE = "probe.html"


def probe(
    context: typer.Context,
    checkpoint: CheckpointArgument = None,
    model: SameModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for answers and page; with --from, the page."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Probes, as in 'noise,blur'; default all.")
    ] = None,
    count: Annotated[int, typer.Option(help="Questions at each level.")] = DEFAULT_COUNT,
    seed: Annotated[int, typer.Option(help="Of pictures, questions and corruptions.")] = 0,
    suffix: Annotated[
        str, typer.Option(help="Said after each drawn question: 'Answer with a single word.'")
    ] = "",
    tasks: Annotated[
        str | None, typer.Option(help="A task of `onevision eval` instead of drawn worlds.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="As for `onevision eval`: the task's data, or own records.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--from", help="Only make the page, from an --output folder.")
    ] = None,
    list_probes: Annotated[
        bool, typer.Option("--list", help="List the probes and their levels.")
    ] = False,
    keep: KeepOption = None,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    verify: VerifyOption = True,
) -> None:
    """Ask at levels of noise, size, wording, ...; write the answers, and a page of curves."""
    if list_probes:
        refuse_unheeded(context, {"list_probes"}, use="the list of the probes")
        return _list()
    if results is not None:
        refuse_unheeded(context, {"results", "output"}, use="a page made from answers (--from)")
        return _write(results, output or results / PAGE)
    name, folder = name_model(checkpoint, model), _check_folder(output)
    check_keep(keep)
    if tasks is not None or data is not None:
        refuse_options(context, {"suffix"}, use="a benchmark, which has prompts of its own")
    config = _make_config(only=only, count=count, seed=seed, suffix=suffix, tasks=tasks, data=data,
                          keep=keep)  # fmt: skip
    loaded = load_model(name, device=device, dtype=dtype, quantize=quantize, adapter=adapter,
                        verify=verify, devices=devices)  # fmt: skip
    return _ask(loaded, config, folder, name=name if adapter is None else f"{name} + {adapter}")


def _ask(model: "Model", config: "ProbeConfig", folder: Path, *, name: str) -> None:
    """Answers what has no answer yet, and writes the page."""
    from onevision.eval.answers import AnswerFiles
    from onevision.eval.benchmark import network_fingerprint
    from onevision.science.probes.ask import ProbeRun

    run = ProbeRun(
        model=model, config=config, output=AnswerFiles(folder), on_progress=show_progress
    )
    run.run(name=name, fingerprint=network_fingerprint(model))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _write(folder, folder / PAGE)


def name_model(checkpoint: str | None, model: str | None) -> str:
    """Returns the model that was named once, or "tiny". Raises InputError."""
    if checkpoint is not None and model is not None:
        raise InputError(
            f"the model is given twice, {checkpoint!r} and --model {model!r}; give it once"
        )
    return checkpoint or model or "tiny"


def _check_folder(output: Path | None) -> Path:
    if output is None:
        raise InputError("the answers need a folder; give --output")
    check_output(output, directory=True)
    return output


def _make_config(
    *,
    only: str | None,
    count: int,
    seed: int,
    suffix: str,
    tasks: str | None,
    data: str | None,
    keep: float | None,
) -> "ProbeConfig":
    """Checks what is asked, and opens a benchmark's data. Raises InputError, DataError."""
    from onevision.science.probes.ask import ProbeConfig
    from onevision.science.probes.files import open_files
    from onevision.science.probes.registry import choose_probes

    if count < 1:
        raise InputError(f"--count is {count}; expected 1 or more")
    on_files = tasks is not None or data is not None
    names = [name.strip() for name in split_items(only or "")]
    probes, files = choose_probes(names, on_files=on_files), None
    if on_files:
        files, skipped = open_files(tasks, data, count=count)
        if skipped:
            print(
                f"warning: {len(skipped)} of the first rows are not asked; the first: {skipped[0]}",
                file=sys.stderr,
            )
    return ProbeConfig(
        probes=probes, count=count, seed=seed, suffix=suffix, keep=keep or 1.0, files=files
    )


def _list() -> None:
    from onevision.science.probes.registry import PROBES

    for name, one in PROBES.items():
        levels = ", ".join(f"{'*' if lv.trained else ''}{lv.label}" for lv in one.levels)
        where = "" if one.corrupt is None else " (benchmarks too)"
        print(f"{name:<12} {one.title}{where}\n{'':<12} {levels}")
    print("* as the procedural worlds are in training")


def _write(folder: Path, page: Path) -> None:
    from onevision.science.probes.page import further, write_page
    from onevision.science.probes.results import read_results

    check_output(page)
    results = read_results(folder)
    _print_results(results)
    for line in further(results):
        print(line)
    print(write_page(results, page, warn=lambda text: print(text, file=sys.stderr)))


def _print_results(results: "ProbeResults") -> None:
    for curve in results.curves:
        print(f"{curve.probe.name:<12} {_format_points(curve)}")


def _format_points(curve: "Curve") -> str:
    return ", ".join(
        f"{point.level.label}: {100 * point.accuracy.value:.0f} %" for point in curve.points
    )


def show_progress(done: int, total: int) -> None:
    """Counts answers in a line that a terminal overwrites."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,} answers", end="", file=sys.stderr, flush=True)
