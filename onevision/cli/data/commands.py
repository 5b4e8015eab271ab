"""`onevision data`: check, stats and view, for data that are to be trained on.

Exit codes of `check`: 0 if the data are fine, 1 if something must be fixed, 3 if data sets of the
mixture are missing and the others are fine.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from onevision.cli.options import check_output, model_config
from onevision.cli.port import check_port
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.cli.data.reader import OpenData
    from onevision.data.check import Finding
    from onevision.data.mixture import Mixture
    from onevision.data.plan import Plan

data = typer.Typer(
    help="Inspect training data before training.", no_args_is_help=True, add_completion=False
)
INCOMPLETE = 3

MixtureArgument = Annotated[
    Path,
    typer.Argument(
        help="JSON, JSON lines, CSV, Parquet or tar; a folder of them, or of pictures with a "
        "captions.csv; a mixture's YAML, or the name of a published one."
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="tiny, 0.5b, 7b, 72b, or a checkpoint.")
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(help="A tokenizer.json, or a directory with one; required for 0.5b, 7b, 72b."),
]
MaxTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Length limit of a sample; default: the stage's.")
]
WorkersOption = Annotated[int | None, typer.Option(help="Worker processes; default: one per core.")]
StageOption = Annotated[
    str | None,
    typer.Option(
        help="Judge by a stage of the model's curriculum: its template, crops, frames and length; "
        "default: onevision, or instruct."
    ),
]
RootsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        help="Where media paths start; default: the folder of the records. Repeatable: links may "
        "lead to the others.",
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
    root: RootsOption = None,
    num_workers: WorkersOption = None,
    seed: SeedOption = 0,
    show: Annotated[int, typer.Option(help="Findings to print per kind.")] = 5,
) -> None:
    """Find what must be fixed before training (exit code 1), or is missing (exit code 3)."""
    from onevision.cli.data.reader import Rules, open_all, open_data, plan_data
    from onevision.cli.data.tables import print_findings, print_summaries, print_unopened
    from onevision.data.check import find_problems, summarize
    from onevision.data.mixture import find_mixture
    from onevision.data.plan import Plan

    if manifest is not None:
        check_output(manifest, directory=True)
    rules = Rules(model=model, tokenizer=tokenizer, stage=stage, max_tokens=max_tokens,
                  roots=tuple(root or ()), seed=seed)  # fmt: skip
    opened = open_data(mixture, rules)
    mine, unopened = opened.reader.mixture, opened.unopened
    print_unopened(unopened, num_open=len(mine.datasets), mixture=find_mixture(mixture))
    if not mine.datasets:
        raise typer.Exit(INCOMPLETE if all(one.is_missing for one in unopened) else 1)
    deep = deep or bool(held_out)
    plan = plan_data(opened.reader, deep=deep, fresh=fresh, num_workers=num_workers)
    others = [
        plan_data(open_all(path, rules), deep=True, fresh=fresh, num_workers=num_workers)
        for path in held_out or []
    ]
    evaluated = Plan(datasets=tuple(one for other in others for one in other.datasets))
    found = list(find_problems(mine, plan, held_out=evaluated if others else None))
    print_summaries(summarize(mine, plan), found)
    print(opened.judged)
    print_findings(found, show=show)
    if manifest is not None:
        _write_manifest(mine, plan, found, manifest)
    _conclude(opened, found)


@data.command()
def stats(
    mixture: MixtureArgument,
    model: ModelOption = "tiny",
    tokenizer: TokenizerOption = None,
    stage: StageOption = None,
    max_tokens: MaxTokensOption = None,
    root: RootsOption = None,
    num_workers: WorkersOption = None,
    seed: SeedOption = 0,
) -> None:
    """Print the rows, tokens and lengths of every data set."""
    from onevision.cli.data.reader import Rules, open_all, plan_data
    from onevision.cli.data.tables import print_summaries
    from onevision.data.check import find_problems, summarize

    rules = Rules(model=model, tokenizer=tokenizer, stage=stage, max_tokens=max_tokens,
                  roots=tuple(root or ()), seed=seed)  # fmt: skip
    reader = open_all(mixture, rules)
    plan = plan_data(reader, deep=False, num_workers=num_workers)
    print_summaries(summarize(reader.mixture, plan), list(find_problems(reader.mixture, plan)))


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
    root: RootsOption = None,
    num_workers: WorkersOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write a page of samples: media, crops, learned text, lengths."""
    from onevision.cli.data.reader import Rules, open_all, plan_data
    from onevision.data.report import write_report

    check_output(output)
    if port is not None:
        check_port("127.0.0.1", port)
    rules = Rules(model=model, tokenizer=tokenizer, stage=stage, max_tokens=max_tokens,
                  roots=tuple(root or ()), seed=seed)  # fmt: skip
    reader = open_all(mixture, rules)
    plan = plan_data(reader, deep=False, num_workers=num_workers)
    config = model_config(model)
    write_report(reader, plan, config, output=output, num_samples=samples, seed=seed)
    print(f"wrote {output}")
    if port is not None:
        _serve(output, port)


def _conclude(opened: "OpenData", found: "list[Finding]") -> None:
    """Prints the last line, and raises Exit unless all is well."""
    count, unopened = len(opened.reader.mixture), opened.unopened
    to_fix, samples = sum(finding.must_fix for finding in found), counted(count, "sample")
    if to_fix:
        print(f"{to_fix} of {counted(count, 'sample')} must be fixed or left out")
        raise typer.Exit(1)
    if unopened:
        print(f"{samples}, nothing to fix; not there: {counted(len(unopened), 'data set')}")
        raise typer.Exit(INCOMPLETE if all(one.is_missing for one in unopened) else 1)
    print(f"{samples}, nothing to fix")


def _write_manifest(
    mixture: "Mixture", plan: "Plan", found: "list[Finding]", directory: Path
) -> None:
    from onevision.data.check import drop_leaks
    from onevision.data.manifest import write_manifest

    usable = drop_leaks(mixture, plan, found)
    write_manifest(mixture, usable, directory)
    rows = sum(int(one.usable.sum()) for one in usable.datasets)
    print(f"manifest of {counted(rows, 'sample')}: {directory}")


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
