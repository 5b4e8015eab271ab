r"""A row -> the conversation that asks it, assembled as the reference's evaluation does.

    no <image> in the text     "<image> <image>\nWhat differs?"    media first, one space between
    <image> in the text        each stands for the next image
    several images             one padded crop each; a single image by AnyRes; a video by its frames

Source: lmms-eval, `llava_onevision.py` (v0.2.3 and 0.7.3). There, once a P24 process has seen a row
with several images, it pads single images too; here each row follows its own rule.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onevision.conversation import Conversation, Image, Message, Part, Role, Text, Video
from onevision.data.records import RawRecord
from onevision.errors import DataError, InputError
from onevision.eval.prompts import format_prompt
from onevision.eval.rows import Rows

MARK = "<image>"
ROLES: tuple[Role, Role] = ("user", "assistant")


@dataclass(frozen=True, kw_only=True)
class AssembledRow:
    """A row, ready to be asked."""

    row: int
    # The file and row, for error messages.
    where: str
    # The text, with a mark for each image or video that has a place in it.
    prompt: str
    conversation: Conversation


def assemble_row(rows: Rows, row: int, record: RawRecord) -> AssembledRow:
    """Returns the conversation of a row. Raises DataError, which names file, row and field."""
    where, task = record.where, rows.task
    if task.turns is not None:
        turns = _read_turns(record, task.turns)
    else:
        turns = (format_prompt(task, record.fields, where=where),)
    try:
        conversation = build_conversation(turns, rows.media(record, prompt=turns[0]))
    except InputError as error:
        raise DataError(f"{where}: {error}") from error
    return AssembledRow(row=row, where=where, prompt="\n".join(turns), conversation=conversation)


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
