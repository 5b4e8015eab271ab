r"""A row -> the conversation that asks it, put together as the reference's evaluation does.

    no mark in the words    "<image> <image>\nWhat differs?"    marks first, spaces between
    marks in the words      each stands for the next image
    several images          one padded crop each; a single image by AnyRes; a video by its frames

Source: lmms-eval, `llava_onevision.py` (v0.2.3 and 0.7.3). There, after the first row with several
images, every later row of a P24 process is padded too; here each row has its own rule.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onevision.conversation import Conversation, Image, Message, Part, Text, Video
from onevision.data.records import MARKS, RawRecord
from onevision.errors import DataError, MediaError
from onevision.eval.prompts import ask
from onevision.eval.rows import Rows


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row, ready to be asked."""

    row: int
    where: str
    prompt: str
    conversation: Conversation


def question(rows: Rows, row: int, record: RawRecord) -> Question:
    """Return the conversation of a row. Raises DataError, which names file, row and field."""
    where, task = record.where, rows.task
    if task.turns is not None:
        turns = _turns(record, task.turns)
    else:
        turns = (ask(task, record.fields, where=where),)
    try:
        media = rows.media(record, prompt=turns[0])
    except MediaError as error:
        raise DataError(f"{where}: {error}") from error
    messages = _messages(turns, media, where=where)
    return Question(
        row=row, where=where, prompt="\n".join(turns), conversation=Conversation(list(messages))
    )


def _messages(
    turns: Sequence[str], media: Sequence[Image | Video], *, where: str
) -> Iterator[Message]:
    """Give user and assistant in turn, each mark replaced by the next image or video."""
    users = turns[::2]
    marks = sum(text.count("<image>") for text in users)
    if media and not marks:
        first = " ".join("<image>" for _ in media) + "\n" + turns[0]
        turns, marks = (first, *turns[1:]), len(media)
    if marks != len(media):
        raise DataError(f"{where}: {marks} <image> marks in the words but {len(media)} media")
    remaining = iter(media)
    for number, text in enumerate(turns):
        if number % 2:
            yield Message("assistant", text)
        else:
            yield Message("user", list(_parts(text, remaining)), media_separator="")


def _parts(text: str, remaining: Iterator[Image | Video]) -> Iterator[Part]:
    for piece in MARKS.split(text):
        if piece == "<image>":
            yield next(remaining)
        elif piece:
            yield Text(piece)


def _turns(record: RawRecord, field: str) -> tuple[str, ...]:
    """Return the words of turns as LLaVA writes them; an odd number, the last is the user's."""
    value = record.fields.get(field)
    try:
        turns = json.loads(value) if isinstance(value, str) else value
        words = tuple(str(turn["value"]) for turn in turns or ())
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{record.where}, field {field!r}: it is {value!r:.40}; expected a list of turns, "
            "each with a `value`"
        ) from error
    if len(words) % 2 == 0:
        raise DataError(f"{record.where}, field {field!r}: {len(words)} turns; expected 1, 3, 5...")
    return words
