"""`onevision quantize`: a model -> a checkpoint with smaller weights, calibrated and measured."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.options import VerifyOption, check_output
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.quantization.quantize import GroupResult, Progress
    from onevision.quantization.run import QuantizeResult

KeepHead = Annotated[bool, typer.Option("--keep-head", help="Leave the output head as it is.")]
KeepLastBlock = Annotated[
    bool, typer.Option("--keep-last-block", help="Leave the last language block as it is.")
]
AllLayers = Annotated[
    bool,
    typer.Option(
        "--all-layers",
        help="Quantize layers, too, that vLLM cannot read so: MLPs of SigLIP whose widths are no "
        "multiples of 64.",
    ),
]
# Layers that are named where several stay as they are for one reason.
SHOWN = 4


def quantize(
    model: Annotated[str, typer.Argument(help="'tiny', a checkpoint directory, or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to create.")],
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="A folder of pictures, or records as for finetune; by default the demo's."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Most samples to calibrate on.", min=1)] = 64,
    scheme: Annotated[
        str, typer.Option(help="w8a8: 8-bit weights and arithmetic; w4a16: 4-bit weights.")
    ] = "w8a8",
    max_error: Annotated[
        float | None,
        typer.Option(
            help="Layers with a larger relative error stay as they are; by default 0.05, and 0.25 "
            "for 4 bits."
        ),
    ] = None,
    rescale: Annotated[
        bool, typer.Option("--rescale/--no-rescale", help="Rescale channels before rounding.")
    ] = True,
    keep_head: KeepHead = False,
    keep_last_block: KeepLastBlock = False,
    all_layers: AllLayers = False,
    verify: VerifyOption = True,
) -> None:
    """Quantize a model into a checkpoint of compressed-tensors' format; see docs/quantization.md.

    Errors are measured on calibration samples, and reported by kind of layer.
    """
    from onevision.quantization.quantize import QuantizeConfig
    from onevision.quantization.rounding import find_scheme
    from onevision.quantization.run import quantize_model

    config = QuantizeConfig(
        scheme=find_scheme(scheme),
        rescale=rescale,
        max_error=max_error,
        keep_head=keep_head,
        keep_last_block=keep_last_block,
        all_layers=all_layers,
    )
    check_output(output, directory=True)
    if calibrate is None:
        print("calibrates on the embedded demo; --calibrate DIR takes pictures like yours")
    with _show_progress() as on_progress:
        result = quantize_model(
            model,
            output,
            config,
            calibrate=calibrate,
            num_samples=samples,
            verify=verify,
            on_progress=on_progress,
        )
    _show(result, output)


@contextmanager
def _show_progress() -> "Iterator[Progress]":
    """Shows a bar for each phase on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    terminal = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as bars:
        tasks: dict[str, int] = {}

        def advance(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total)
            bars.update(bars.task_ids[tasks[phase]], completed=done)

        yield advance


def _show(result: "QuantizeResult", output: Path) -> None:
    for line in _table(result.groups):
        print(line)
    for reason, layers in _kept(result.groups).items():
        others = len(layers) - SHOWN
        more = f" and {counted(others, 'other')}" if others > 0 else ""
        print(f"kept  {', '.join(layers[:SHOWN])}{more}: {reason}")
    for reason in result.skipped:
        print(f"left out of calibration: {reason}")
    print(
        f"{result.calibration}: {result.num_samples} samples, {len(result.skipped)} left out; next "
        f"tokens at {result.num_places} places: KL {result.kl:.2g} nats, {result.same:.1%} the same"
    )
    print(
        f"{output}: {result.scheme}, {result.num_bytes_before / 2**20:,.1f} -> "
        f"{result.num_bytes / 2**20:,.1f} MiB; quantization.json has every layer"
    )


def _kept(groups: "Sequence[GroupResult]") -> dict[str, list[str]]:
    """Returns the layers that stay as they are, by the reason."""
    kept: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        if group.kept:
            kept[group.kept] += group.layers
    return kept


def _table(groups: "Sequence[GroupResult]") -> Iterator[str]:
    """Yields a row for each kind of layer: how many are quantised, and their errors."""
    kinds: dict[str, list[GroupResult]] = defaultdict(list)
    for group in groups:
        part, *_, first = group.layers[0].replace("query", "query, key, value").split(".")
        kinds[f"{part} {first.replace('gate', 'gate, up')}"].append(group)
    yield f"{'layers':<40} {'quantised':>10}{'rounded':>10}{'rescaled':>10}{'worst':>10}"
    for kind, found in kinds.items():
        done = [group for group in found if not group.kept]
        before = [group.plain_error for group in found if group.plain_error is not None]
        after = [group.error for group in found if group.error is not None]
        columns = (median(before), median(after), max(after)) if after else ()
        errors = "".join(f"{error:>10.2%}" for error in columns)
        yield f"{kind:<40} {f'{len(done)} of {len(found)}':>10}{errors}"
