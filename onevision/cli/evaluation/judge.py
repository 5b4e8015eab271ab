"""`onevision judge`: grades the answers of a run, later or again, without asking them again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onevision.cli.evaluation.judges import (
    JudgeModelOption,
    JudgeOption,
    JudgePricesOption,
    RoundsOption,
    open_panel,
    print_usage,
    refuse_judge_options,
)
from onevision.cli.options import DeviceOption, DtypeOption
from onevision.errors import InputError
from onevision.values import name_closest

if TYPE_CHECKING:
    from onevision.eval.answers import AnswerFiles
    from onevision.eval.question import QuestionSource


def judge(
    context: typer.Context,
    output: Annotated[Path, typer.Argument(help="--output folder of `onevision eval`.")],
    judge: JudgeOption = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder with the images, if it has moved; for judges that see them."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Judge these tasks alone, separated by commas.")
    ] = None,
    judge_model: JudgeModelOption = None,
    judge_prices: JudgePricesOption = None,
    rounds: RoundsOption = 1,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
) -> None:
    """Judge the answers of a run. If interrupted, run it again; replies are kept."""
    from onevision.cli.evaluation.benchmarks import print_result
    from onevision.eval.figures import score_answers

    if not judge:
        raise InputError("no judge; give --judge MODEL or --judge URL")
    refuse_judge_options(context, judge)
    runs = find_judged_runs(output, tasks=tasks)
    questions = [open_images(files, data) for files in runs]
    panel = open_panel(
        judge, output, model=judge_model, prices=judge_prices,
        rounds=rounds, device=device, dtype=dtype,
    )  # fmt: skip
    for files, shown in zip(runs, questions, strict=True):
        print_result(score_answers(files, panel=panel, questions=shown))
    print_usage(panel)


def find_judged_runs(output: Path, *, tasks: str | None) -> list["AnswerFiles"]:
    """Return the answers below a folder whose task has a judge. Raises InputError, DataError."""
    from onevision.eval.answers import RUN, AnswerFiles

    runs = [AnswerFiles(path.parent) for path in sorted(output.rglob(RUN))]
    found = {files: files.settings()["task"] for files in runs}
    if not found:
        raise InputError(f"{output}: no answers in it; give the --output of `onevision eval`")
    names = sorted({task["name"] for task in found.values()})
    wanted = tasks.split(",") if tasks else names
    for name in wanted:
        if name not in names:
            raise InputError(f"{output} has no task {name!r}{name_closest(name, names)}")
    judged = [files for files, task in found.items() if task["judge"] and task["name"] in wanted]
    if not judged:
        raise InputError(f"{output}: rules score {', '.join(wanted)}; no task here has a judge")
    return judged


def open_images(files: "AnswerFiles", data: str | None) -> "QuestionSource | None":
    """Return the questions of a run if its judge sees their images. Raises DataError."""
    from onevision.eval.assemble import TaskQuestions
    from onevision.eval.judging.registry import find_judged_benchmark
    from onevision.eval.rows import open_rows
    from onevision.eval.task import Task
    from onevision.values import from_plain

    settings = files.settings()
    if not find_judged_benchmark(settings["task"]["judge"]).sees_images:
        return None
    task = from_plain(Task, settings["task"], where=str(files.directory), complete=False)
    return TaskQuestions(open_rows(task, data or settings["data"]["place"]))
