"""A task + its first question -> nothing, or the mistake that would end the run after the answers.

The first question is scored with an empty answer, so that a wrong `metric`, `unit`, `submission` or
scorer is found before a model is loaded, and so are images under another name or in another folder.
"""

from contextlib import suppress
from itertools import islice

from onevision.errors import DataError, MediaError
from onevision.eval.judging.registry import find_judged_benchmark
from onevision.eval.question import Question, QuestionSource
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.task import Task
from onevision.plural import counted
from onevision.values import name_closest

# If so many rows in turn have no image that can be shown, the task or the folder is wrong.
NUM_TRIED = 3


def check_questions(questions: QuestionSource, *, judged: bool = False) -> None:
    """Refuses a task whose answers could not be scored. Raises DataError, which names the row.

    With `judged`, the judge's first query is written too.
    """
    task = questions.task
    posed = (questions.pose(row) for row in range(len(questions)))
    begin = list(islice(filter(None, posed), NUM_TRIED))
    first = begin[0] if begin else None
    if first is None:
        raise DataError(
            f"task {task.name!r}: `where` selects none of {counted(len(questions), 'row')}; "
            "correct it"
        )
    if len(begin) == NUM_TRIED and all(question.problem for question in begin):
        raise DataError(
            f"task {task.name!r}: none of the first {NUM_TRIED} rows can be asked: {first.problem}"
        )
    try:
        _check_fields(task, first)
        if task.scorer is not None:
            _check_scorer(task, first)
        if judged and task.judge is not None:
            _check_judge(task.judge, first)
    except DataError as error:
        raise DataError(f"task {task.name!r}, {first.where}: {error}") from error


def _check_fields(task: Task, first: Question) -> None:
    wanted = {f"submission.{key}": name for key, name in task.submission.items()}
    if task.unit is not None:
        wanted["unit"] = task.unit.partition(" % ")[0]
    for key, name in wanted.items():
        if name != "answer" and name not in first.item:
            hint = name_closest(name, first.item)
            raise DataError(f"`{key}` is {name!r}, a field that the row does not have{hint}")


def _check_scorer(task: Task, first: Question) -> None:
    assert task.scorer is not None
    scorer = SCORERS[task.scorer]
    score = scorer.score("", first.item)
    metrics: dict[str, float] = {}
    with suppress(DataError):  # one row is not a whole benchmark: MME has two per image
        metrics = scorer.aggregate([score])
    if task.metric is not None and metrics and task.metric not in metrics:
        hint = name_closest(task.metric, metrics)
        raise DataError(f"`metric` is {task.metric!r}, which scorer {task.scorer!r} lacks{hint}")


def _check_judge(judge_id: str, first: Question) -> None:
    benchmark = find_judged_benchmark(judge_id)
    if benchmark.case_key is not None or first.conversation is None:
        return  # it takes more than one row, or there is nothing to show
    images = [medium.source for medium in first.conversation.media]
    dialogue = benchmark.judge((({**first.item, "images": images}, ""),))
    with suppress(StopIteration, MediaError):
        next(dialogue)
    dialogue.close()
