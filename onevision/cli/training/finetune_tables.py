"""What `onevision finetune` prints: what is wrong with the data, the plan, the result."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from onevision.commas import join_items
from onevision.plural import counted

if TYPE_CHECKING:
    from onevision.train.finetune.choose import Choice
    from onevision.train.finetune.outcome import Change
    from onevision.train.finetune.request import FinetuneDirectory, FinetuneRequest
    from onevision.train.finetune.samples import CheckedData

# Examples of each kind of finding.
NUM_EXAMPLES = 2
# The options of a request that have one value.
OPTIONS = {
    "start": "--from",
    "adapter": "--adapter",
    "method": "--method",
    "bits": "--bits",
    "lora_rank": "--lora-rank",
    "epochs": "--epochs",
    "held_out": "--held-out",
    "patience": "--patience",
    "seed": "--seed",
    "memory_gib": "--memory",
    "devices": "--devices",
}


def show_data(checked: "CheckedData") -> None:
    """Prints what there is to learn, and a table of what is wrong."""
    from onevision.train.finetune.samples import count_by_kind

    for one in checked.summaries:
        kinds = ", ".join(
            f"{n:,} {kind.removesuffix('_image')}" for kind, n in one.modalities.items()
        )
        print(
            f"{one.name}: {one.num_usable:,} of {counted(one.num_rows, 'sample')} usable "
            f"({kinds}), "
            f"{one.num_tokens:,} tokens, median {one.median_length:,}, longest {one.longest:,}"
        )
    if not checked.decoded:
        print("pictures are checked by their headers; `onevision data check --deep` decodes all")
    found = count_by_kind(checked.findings)
    if not found:
        print("nothing is wrong")
    for kind, findings in found.items():
        verdict = "left out" if findings[0].must_fix else "learned as they are"
        print(f"  {kind}: {len(findings):,} ({verdict})")
        for one in findings[:NUM_EXAMPLES]:
            where = f"{one.source}, row {one.row}"
            text = one.message if one.message.startswith(where) else f"{where}: {one.message}"
            print(f"    {text}")


def show_choice(choice: "Choice") -> None:
    """Prints what is trained, why, and what it costs."""
    from onevision.train.cost.devices import GIB
    from onevision.train.cost.tables import compact, format_hours

    plan, options = choice.plan, choice.options
    print("plan")
    for reason in choice.reasons:
        print(f"  {reason}")
    count = f"{plan.num_devices} x " if plan.num_devices > 1 else ""
    has = plan.kind.memory_bytes / GIB
    print(
        f"  {compact(choice.num_trainable)} of {compact(choice.num_parameters)} weights train; "
        f"{compact(plan.num_tokens)} tokens; about {plan.memory.total / GIB:.1f} of "
        f"{has:.1f} GiB; roughly {format_hours(plan.hours)}"
    )
    print(f"  on {count}{plan.kind.name}, {options.precision}; --set KEY=VALUE changes it")


def show_changes(changes: "Sequence[Change]") -> None:
    """Prints the measures on held-out samples, before and after."""
    print("held out" if changes else "nothing was held out, so nothing is measured")
    for one in changes:
        print(f"  {one.describe()}")


def show_next_commands(directory: "FinetuneDirectory") -> None:
    """Prints where the result is, and what to do with it."""
    run = directory.run
    print(f"\nmodel    {run.checkpoint}")
    if run.adapter.is_dir():
        print(f"adapter  {run.adapter} (on {base_of(directory)})")
    print(f"report   {directory.path / 'report.html'}")
    if peak := peak_memory(directory):
        print(f"memory   {peak}")
    print("\nnext")
    for command in (ask_command(directory), serve_command(directory), eval_command(directory)):
        if command:
            print(f"  {command}")


def peak_memory(directory: "FinetuneDirectory") -> str:
    """Returns what training took at most, as measured; "" if its metrics are gone."""
    from onevision.errors import InputError
    from onevision.train.cost.devices import GIB
    from onevision.train.report.metrics import METRICS, read_metrics

    try:
        lines = read_metrics(directory.path / METRICS)
    except InputError:
        return ""
    peak = max((line["memory_bytes"] for line in lines), default=0)
    return f"{peak / GIB:.1f} GiB at most while training, as measured" if peak else ""


def base_of(directory: "FinetuneDirectory") -> str:
    """Returns the model that the adapter lies on, as --model takes it."""
    from onevision.checkpoint.adapter_config import ADAPTER_CONFIG, read_adapter_config

    return read_adapter_config(directory.run.adapter / ADAPTER_CONFIG).base_model


def finetune_command(request: "FinetuneRequest", directory: "FinetuneDirectory") -> str:
    """Returns the command that was given, without options that have their defaults."""
    from onevision.train.finetune.request import FinetuneRequest

    default = FinetuneRequest(data=request.data)
    words = ["onevision", "finetune", request.data, "--output", str(directory.path)]
    for name, option in OPTIONS.items():
        value = vars(request)[name]
        if value != vars(default)[name]:
            words += [option, str(value)]
    words += [word for root in request.roots for word in ("--root", root)]
    return shlex.join([*words, *(word for one in request.settings for word in ("--set", one))])


def ask_command(directory: "FinetuneDirectory") -> str:
    """Returns the command that asks the model a held-out question, or any."""
    question, media = "What do you see?", list[str]()
    for file in sorted(directory.questions.glob("*.jsonl")):
        line = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
        text = str(line["turns"][0]["value"]).replace("<image>", " ")
        question = " ".join(text.split()) or question
        option = "--video" if "video" in line else "--image"
        names = [line["video"]] if "video" in line else line["images"]
        media = [word for name in names for word in (option, str(directory.questions / name))]
        break
    return shlex.join(
        ["onevision", "ask", question, "--model", str(directory.run.checkpoint), *media]
    )


def serve_command(directory: "FinetuneDirectory") -> str:
    """Returns the command that serves the model."""
    name = directory.path.resolve().name
    return shlex.join(
        ["onevision", "serve", "--model", str(directory.run.checkpoint), "--name", name]
    )


def eval_command(directory: "FinetuneDirectory") -> str | None:
    """Returns the command that asks the held-out questions again; None if there are none."""
    tasks = sorted(map(str, directory.questions.glob("*.yaml")))
    if not tasks:
        return None
    return shlex.join(
        [
            *("onevision", "eval", "--model", str(directory.run.checkpoint)),
            *("--tasks", join_items(tasks), "--data", str(directory.questions)),
            *("--output", str(directory.answers / "again")),
        ]
    )


@contextmanager
def show_progress(title: str, *, total: int) -> Iterator[Callable[[int], object]]:
    """Shows a bar on a terminal; yields what takes the number done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    terminal = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
