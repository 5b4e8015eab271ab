"""The benchmarks of `onevision eval`, or a user's records -> items about corrupted pictures.

Prompts, answers and scorers are eval's; only the pixels change. The score of an item is its own
number, 0 to 1, of which a benchmark's metric may be more than the mean.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from onevision.conversation import Conversation, Image, Video
from onevision.errors import DataError, InputError, MediaError
from onevision.eval.assemble import TaskQuestions
from onevision.eval.figures import find_scorer
from onevision.eval.own_data import open_own_questions
from onevision.eval.preflight import check_questions
from onevision.eval.question import Question, QuestionSource
from onevision.eval.rows import open_rows
from onevision.eval.scoring.fields import number
from onevision.eval.task import find_tasks
from onevision.files import Line
from onevision.inputs.media import open_image
from onevision.science.probes.item import Level, Probe, ProbeItem
from onevision.science.probes.pictures import corruption_rng

# Fields in which data sets have the right answer, and the kind of a question.
ANSWERS = ("answer", "answers", "label", "gt_ans", "target", "correct_answer")
KINDS = ("category", "question_type", "task_type", "type", "sub_task", "subject", "turn")
MAX_CHARACTERS = 120


@dataclass(frozen=True, kw_only=True)
class FileItems:
    """The questions of one task about pictures."""

    source: QuestionSource
    # The rows that are asked, in their order.
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.source.task.name

    def make(self, probe: Probe, level: Level, *, seed: int, row: int) -> ProbeItem:
        """Returns the item of a row at a level. Raises DataError, MediaError."""
        assert probe.corrupt is not None
        corrupt, question = probe.corrupt, self.source.pose(row)
        assert question is not None and question.conversation is not None, "the row was posed"

        def change(number: int, image: Image) -> Image:
            rng = corruption_rng(f"{probe.name}/{number}", seed, row)
            return replace(image, source=corrupt(open_image(image.source), level.value, rng))

        scorer = find_scorer(self.source.task.plain())
        item = question.item
        return ProbeItem(
            conversation=map_images(question.conversation, change),
            question=question.prompt,
            expected=_first_text(item, ANSWERS),
            family=_first_text(item, KINDS) or self.name,
            score=lambda answer: number(scorer.score(answer, item), "score"),
        )


def open_files(tasks: str | None, data: str | None, *, count: int) -> tuple[FileItems, list[str]]:
    """Opens the first `count` questions that can be asked; returns why others cannot.

    `tasks` names one task of eval, whose data are in `data`; without it, `data` is a file of
    records. Raises InputError, DataError.
    """
    source = _open_task(tasks, data or "data") if tasks is not None else _open_own(data or "")
    check_questions(source)
    find_scorer(source.task.plain())
    rows, skipped = list[int](), list[str]()
    for row in range(len(source)):
        if len(rows) == count:
            break
        question = source.pose(row)
        problem = "" if question is None else _find_problem(question)
        if problem:
            skipped.append(problem)
        elif question is not None:
            rows.append(row)
    if not rows:
        raise DataError(
            f"{source.task.name}: no question can be asked about a picture: {skipped[0]}"
        )
    return FileItems(source=source, rows=tuple(rows)), skipped


def map_images(conversation: Conversation, change: Callable[[int, Image], Image]) -> Conversation:
    """Returns a conversation with its images changed, each by its number, from 0."""
    numbers: Iterator[int] = iter(range(len(conversation.media)))
    messages = [
        replace(
            message,
            content=[
                change(next(numbers), part) if isinstance(part, Image) else part
                for part in message.parts
            ],
        )
        for message in conversation.messages
    ]
    return replace(conversation, messages=messages)


def _open_task(name: str, data: str) -> QuestionSource:
    tasks = find_tasks([name])
    if len(tasks) > 1:
        names = ", ".join(task.name for task in tasks)
        raise InputError(f"--tasks {name} is {len(tasks)} tasks; probe one of {names}")
    if tasks[0].video:
        raise InputError(f"--tasks {name} asks about videos; give a task about pictures")
    return TaskQuestions(open_rows(tasks[0], data))


def _open_own(data: str) -> QuestionSource:
    path = Path(data)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give your records as --data")
    return open_own_questions(path)


def _find_problem(question: Question) -> str:
    """Returns why a question cannot be probed, or nothing."""
    conversation = question.conversation
    if conversation is None:
        return question.problem or f"{question.where}: it cannot be asked"
    if any(isinstance(medium, Video) for medium in conversation.media):
        return f"{question.where}: it asks about a video"
    if not conversation.media:
        return f"{question.where}: it has no picture"
    try:
        for medium in conversation.media:
            assert isinstance(medium, Image)
            open_image(medium.source)
    except MediaError as error:
        return f"{question.where}: {error}"
    return ""


def _first_text(item: Line, names: tuple[str, ...]) -> str:
    """Returns the first of several fields that holds something, as a short text."""
    for name in names:
        value = item.get(name)
        if value is not None and value != "":
            first = value[0] if isinstance(value, list) and value else value
            return str(first)[:MAX_CHARACTERS]
    return ""
