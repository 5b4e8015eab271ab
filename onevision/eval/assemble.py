r"""A row -> the conversation that asks it, assembled as the reference's evaluation does.

    no <image> in the text     "<image> <image>\nWhat differs?"    media first, one space between
    <image> in the text        each stands for the next image
    several images             one padded crop each; a single image by AnyRes; a video by its frames

Source: lmms-eval, `llava_onevision.py` (v0.2.3 and 0.7.3). There, once a P24 process has seen a row
with several images, it pads single images too; here each row follows its own rule.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onevision.conversation import Conversation, Image, Message, Part, Role, Text, Video
from onevision.data.forms.raw import RawRecord, field_error
from onevision.errors import DataError, InputError
from onevision.eval.prompts import format_prompt
from onevision.eval.question import Question
from onevision.eval.rows import Rows, row_to_json
from onevision.eval.task import Task
from onevision.inputs.media import image_size

MARK = "<image>"
ROLES: tuple[Role, Role] = ("user", "assistant")


@dataclass(frozen=True)
class TaskQuestions:
    """The questions of a task's rows."""

    rows: Rows

    @property
    def task(self) -> Task:
        """The task that they belong to."""
        return self.rows.task

    def __len__(self) -> int:
        return len(self.rows) if self.task.each is None else len(self._entries)

    @property
    def files(self) -> dict[str, int]:
        """The size in bytes of each file of rows, by its path inside their folder."""
        rows = self.rows
        return {str(path.relative_to(rows.root)): path.stat().st_size for path in rows.files}

    def pose(self, row: int) -> Question | None:
        """Returns the question of a row; None if the task does not ask it. Raises DataError."""
        record = self._read(row)
        return assemble_row(self.rows, row, record) if self.rows.selects(record) else None

    def _read(self, row: int) -> RawRecord:
        if self.task.each is None:
            return self.rows.read(row)
        number, entry = self._entries[row]
        record = self.rows.read(number)
        return replace(record, fields={**record.fields, self.task.each: entry})

    @cached_property
    def _entries(self) -> tuple[tuple[int, object], ...]:
        """The row and the entry of every question. Raises DataError."""
        name, found = self.task.each, list[tuple[int, object]]()
        assert name is not None, "the task asks more than once about a row"
        for number in range(len(self.rows)):
            record = self.rows.read(number)
            value = record.fields.get(name)
            if not isinstance(value, list):
                raise field_error(record, name, f"it is {value!r:.40}; expected a list")
            found += [(number, entry) for entry in value]
        return tuple(found)


def assemble_row(rows: Rows, row: int, record: RawRecord) -> Question:
    """Returns the question of a row, or what is wrong with its media.

    Raises DataError, which names file, row and field, if the task's prompt cannot be filled.
    """
    where, task = record.where, rows.task
    if task.turns is not None:
        turns = _read_turns(record, task.turns)
    else:
        turns = (format_prompt(task, record.fields, where=where),)
    conversation, problem = None, None
    try:
        conversation = build_conversation(turns, rows.media(record, prompt=turns[0]))
    except DataError as error:
        problem = str(error)
    except InputError as error:
        problem = f"{where}: {error}"
    item = row_to_json(record.fields, without=task.images)
    if task.images_optional and conversation is not None:
        item["has_image"] = bool(conversation.media)
    if task.sizes and conversation is not None:
        item |= _first_size(conversation)
    prompt = "\n".join(turns)
    return Question(row=row, where=where, prompt=prompt, item=item, conversation=conversation,
                    problem=problem)  # fmt: skip


def _first_size(conversation: Conversation) -> dict[str, object]:
    """Returns the size of the first image, as a scorer reads it. Raises MediaError."""
    first = conversation.media[0]
    assert isinstance(first, Image), "a task with sizes has images"
    size = image_size(first.source)
    return {"image_width": size.width, "image_height": size.height}


def build_conversation(turns: Sequence[str], media: Sequence[Image | Video]) -> Conversation:
    """Returns user and assistant turns, with each <image> replaced by the next image or video.

    Without any <image>, media precede the first turn. Raises InputError if there are more marks
    than media or fewer, or if the assistant would speak last.
    """
    marks = sum(turn.count(MARK) for turn in turns)
    if media and not marks:
        turns, marks = (" ".join([MARK] * len(media)) + "\n" + turns[0], *turns[1:]), len(media)
    if marks != len(media):
        raise InputError(f"{marks} {MARK} marks in the text but {len(media)} images or videos")
    if len(turns) % 2 == 0:
        raise InputError(f"{len(turns)} turns; expected the user to speak last")
    remaining = iter(media)
    return Conversation(
        [
            Message(ROLES[number % 2], list(_fill_marks(turn, remaining)), media_separator="")
            for number, turn in enumerate(turns)
        ]
    )


def _fill_marks(turn: str, remaining: Iterator[Image | Video]) -> Iterator[Part]:
    first, *rest = turn.split(MARK)
    if first or not rest:
        yield Text(first)
    for piece in rest:
        yield next(remaining)
        if piece:
            yield Text(piece)


def _read_turns(record: RawRecord, field: str) -> tuple[str, ...]:
    """Returns the turns of a conversation in LLaVA's format."""
    value = record.fields.get(field)
    try:
        turns = json.loads(value) if isinstance(value, str) else value
        texts = tuple(str(turn["value"]) for turn in turns or ())
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{record.where}, field {field!r}: it is {value!r:.40}; expected a list of turns, "
            "each with a `value`"
        ) from error
    if not texts:
        raise DataError(f"{record.where}, field {field!r}: there are no turns in it")
    return texts
