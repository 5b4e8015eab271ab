"""`onevision data`: check, stats and view, for a mixture that is to be trained on."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from onevision.cli.options import check_output, model_config
from onevision.cli.port import check_port

if TYPE_CHECKING:
    from onevision.data.check import Finding, SourceSummary
    from onevision.data.plan import Plan
    from onevision.data.samples import SampleReader
    from onevision.inputs.tokenizer import Tokenizer

data = typer.Typer(
    help="Inspect training data before training.", no_args_is_help=True, add_completion=False
)

MixtureArgument = Annotated[Path, typer.Argument(help="A mixture's YAML, or a JSON file.")]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="tiny, 0.5b, 7b, 72b, or a checkpoint.")
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(help="A tokenizer.json, or a directory with one; required for 0.5b, 7b, 72b."),
]
MaxTokensOption = Annotated[
    int | None, typer.Option(help="Length limit of a sample; default: the model's positions.")
]
WorkersOption = Annotated[int | None, typer.Option(help="Worker processes; default: one per core.")]
StageOption = Annotated[
    str | None,
    typer.Option(
        help="Judge by a stage of the model's curriculum: its template, crops, frames and length."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed for rows chosen at random.")]


@data.command()
def check(
    mixture: MixtureArgument,
    model: ModelOption = "tiny",
    tokenizer: TokenizerOption = None,
    stage: StageOption = None,
    max_tokens: MaxTokensOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode all media, too.")] = False,
    held_out: Annotated[
        list[Path] | None, typer.Option("--eval", help="Evaluation data; finds leaks into it.")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Ignore cached plans: media have changed under the same names."
        ),
    ] = False,
    manifest: Annotated[
        Path | None, typer.Option(help="Directory to write the manifest to.")
    ] = None,
    num_workers: WorkersOption = None,
    seed: SeedOption = 0,
    show: Annotated[int, typer.Option(help="Findings to print per kind.")] = 5,
) -> None:
    """Find what must be fixed before training; exit code 1 if there is anything."""
    from onevision.data.check import drop_leaks, find_problems, summarize
    from onevision.data.manifest import write_manifest
    from onevision.data.plan import Plan

    if manifest is not None:
        check_output(manifest, directory=True)
    reader = _reader(mixture, model, tokenizer, stage=stage, max_tokens=max_tokens, seed=seed)
    plan = _plan(reader, deep=deep or bool(held_out), fresh=fresh, num_workers=num_workers)
    others = [
        _plan(
            _reader(path, model, tokenizer, stage=stage, max_tokens=max_tokens, seed=seed),
            deep=True,
            fresh=fresh,
            num_workers=num_workers,
        )
        for path in held_out or []
    ]
    evaluated = Plan(datasets=tuple(one for other in others for one in other.datasets))
    found = list(find_problems(reader.mixture, plan, held_out=evaluated if others else None))
    _print_table(summarize(reader.mixture, plan), found)
    _print_findings(found, show=show)
    if manifest is not None:
        usable = drop_leaks(reader.mixture, plan, found)
        write_manifest(reader.mixture, usable, manifest)
        rows = sum(int(one.usable.sum()) for one in usable.datasets)
        print(f"manifest of {rows:,} samples: {manifest}")
    to_fix = sum(finding.must_fix for finding in found)
    if to_fix:
        print(f"{to_fix} of {len(reader.mixture):,} samples must be fixed or left out")
        raise typer.Exit(1)
    print(f"{len(reader.mixture):,} samples, nothing to fix")


@data.command()
def stats(
    mixture: MixtureArgument,
    model: ModelOption = "tiny",
    tokenizer: TokenizerOption = None,
    stage: StageOption = None,
    max_tokens: MaxTokensOption = None,
    num_workers: WorkersOption = None,
    seed: SeedOption = 0,
) -> None:
    """Print the rows, tokens and lengths of every data set."""
    from onevision.data.check import find_problems, summarize

    reader = _reader(mixture, model, tokenizer, stage=stage, max_tokens=max_tokens, seed=seed)
    plan = _plan(reader, deep=False, num_workers=num_workers)
    _print_table(summarize(reader.mixture, plan), list(find_problems(reader.mixture, plan)))


@data.command()
def view(
    mixture: MixtureArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path(
        "report.html"
    ),
    model: ModelOption = "tiny",
    tokenizer: TokenizerOption = None,
    samples: Annotated[int, typer.Option(help="Random samples per data set.")] = 4,
    port: Annotated[int | None, typer.Option(help="Also serve the page on this port.")] = None,
    stage: StageOption = None,
    max_tokens: MaxTokensOption = None,
    num_workers: WorkersOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write a page of samples: media, crops, learned text, lengths."""
    from onevision.data.report import write_report

    check_output(output)
    if port is not None:
        check_port("127.0.0.1", port)
    reader = _reader(mixture, model, tokenizer, stage=stage, max_tokens=max_tokens, seed=seed)
    plan = _plan(reader, deep=False, num_workers=num_workers)
    config = model_config(model)
    write_report(reader, plan, config, output=output, num_samples=samples, seed=seed)
    print(f"wrote {output}")
    if port is not None:
        _serve(output, port)


def _reader(
    mixture: Path,
    model: str,
    tokenizer: Path | None,
    *,
    stage: str | None,
    max_tokens: int | None,
    seed: int,
) -> "SampleReader":
    """Opens a mixture by the rules of a stage or, without one, of the finished model."""
    from onevision.checkpoint.hub import BUNDLED, resolve
    from onevision.cli.options import read_tokenizer
    from onevision.data.mixture import open_mixture
    from onevision.data.samples import SampleReader
    from onevision.data.styles import read_styles
    from onevision.errors import InputError
    from onevision.inputs.processor import Processor
    from onevision.known_models import ARCHITECTURES

    config = model_config(model)
    if tokenizer is None and model in ARCHITECTURES and model not in BUNDLED:
        raise InputError(
            f"{model} is an architecture without a tokenizer; give --tokenizer DIRECTORY, "
            "with Qwen2's tokenizer.json, or that file itself"
        )
    words = read_tokenizer(tokenizer if tokenizer is not None else resolve(model))
    if stage is not None:
        return _stage_reader(stage, model, mixture, words, max_tokens=max_tokens, seed=seed)
    return SampleReader(
        mixture=open_mixture(mixture, seed=seed),
        processor=Processor(config.inputs, words),
        max_tokens=max_tokens or config.language.max_positions,
        styles=read_styles(mixture),
    )


def _stage_reader(
    name: str,
    model: str,
    mixture: Path,
    tokenizer: "Tokenizer",
    *,
    max_tokens: int | None,
    seed: int,
) -> "SampleReader":
    """Opens a mixture as `onevision train` does in a stage of the model's curriculum."""
    from dataclasses import replace

    from onevision.checkpoint.hub import resolve
    from onevision.inputs.processor import Processor
    from onevision.known_models import ARCHITECTURES
    from onevision.train.mixture_feed import open_reader
    from onevision.train.stage import stage_config
    from onevision.train.stages import stage_named
    from onevision.train.start import Starts
    from onevision.train.target import choose_model, choose_target

    previous = () if model in ARCHITECTURES else (resolve(model),)
    curriculum = model if model in ARCHITECTURES else choose_model(previous)
    stage = stage_named(name, curriculum).learning_from(str(mixture))
    if max_tokens is not None:
        stage = replace(stage, max_tokens=max_tokens)
    target = choose_target(stage, ARCHITECTURES[curriculum], Starts(previous=previous))
    processor = Processor(stage_config(stage, target).inputs, tokenizer)
    return open_reader(stage, processor, seed=seed)


def _plan(
    reader: "SampleReader", *, deep: bool, num_workers: int | None, fresh: bool = False
) -> "Plan":
    from onevision.cli.planning import plan_and_show

    count = (os.cpu_count() or 1) if num_workers is None else num_workers
    return plan_and_show(reader, deep=deep, fresh=fresh, num_workers=count)


def _print_table(summaries: list["SourceSummary"], found: list["Finding"]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("data set", overflow="fold")
    for name in ("rows", "usable", "to fix", "tokens", "median", "longest"):
        table.add_column(name, justify="right", no_wrap=True)
    faults = Counter(finding.source for finding in found if finding.must_fix)
    for one in summaries:
        kinds = {**one.modalities, **{f"with fewer {k}": n for k, n in one.reductions.items()}}
        details = ", ".join(f"{n:,} {kind.removesuffix('_image')}" for kind, n in kinds.items())
        table.add_row(
            f"{one.name}\n  {details}",
            f"{one.num_rows:,}",
            f"{one.num_usable:,}",
            f"{faults[one.name]:,}",
            f"{one.num_tokens:,}",
            f"{one.median_length:,}",
            f"{one.longest:,}",
        )
    Console().print(table)


def _print_findings(found: list["Finding"], *, show: int) -> None:
    for kind, count in Counter(finding.kind for finding in found).items():
        print(f"{kind}: {count:,}")
        of_kind = [finding for finding in found if finding.kind == kind]
        for finding in of_kind[:show]:
            message = finding.message
            where = f"{finding.source}, row {finding.row}"
            print(f"  {message}" if message.startswith(where) else f"  {where}: {message}")
        if count > show:
            print(f"  ... and {count - show:,} more; --show {count} prints all")


def _serve(page: Path, port: int) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class OnePage(SimpleHTTPRequestHandler):
        def send_head(self) -> BinaryIO | None:
            # Another name in Host is how a foreign page reads this one, by DNS rebinding.
            if self.headers.get("host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
                self.send_error(403, "this page is served to 127.0.0.1 and localhost alone")
                return None
            self.path = f"/{page.name}"
            return super().send_head()

    handler = partial(OnePage, directory=str(page.parent))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"serving http://127.0.0.1:{server.server_port}/ until interrupted")
        server.serve_forever()
