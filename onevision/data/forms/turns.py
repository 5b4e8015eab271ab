"""What every form of record is read into: turns, whose media are still fields of the record."""

import re
from dataclasses import dataclass, field
from typing import Literal

from onevision.conversation import Detail, Role
from onevision.data.forms.raw import RawRecord, describe, field_error

MediaKind = Literal["image", "video"]
MARKS = re.compile(r"(<image>|<video>)")
KINDS: dict[str, MediaKind] = {"<image>": "image", "<video>": "video"}
# Media that other programs write into the text itself; they would be learned as words.
INLINE = re.compile(r"<(img|vid|audio)>[^<]{1,4096}</\1>|<(bbox|ref-object)>")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where an image or a video belongs.

    `entry` is the medium itself; None means the next one of the record's own field of media.
    """

    kind: MediaKind
    entry: object = None
    detail: Detail = "auto"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn: its role, its words and slots in order, and whether it is learned."""

    role: Role
    pieces: tuple[str | Slot, ...]
    learned: bool = True


@dataclass(frozen=True, kw_only=True)
class Talk:
    """The turns of a record, and how its form is written."""

    turns: tuple[Turn, ...]
    # The field for messages, and all fields that were read.
    field: str
    used: frozenset[str]
    # Keys of turns and of their parts that mean nothing here, such as "messages[].name".
    unused: tuple[str, ...] = field(default=())
    # Whether media without marks stand in front of the first question.
    media_in_front: bool = False


def mark_text(record: RawRecord, text: object, *, role: Role, field: str) -> tuple[str | Slot, ...]:
    """Splits a question at its marks; every other text is kept as it is. Raises DataError."""
    if not isinstance(text, str):
        raise field_error(record, field, f"its text is {describe(text)}; expected a string")
    if role == "assistant" and not text.strip():
        raise field_error(record, field, "the answer is empty; give one or remove the turn")
    if role != "user":
        return (text,)
    if inline := INLINE.search(text):
        raise field_error(
            record,
            field,
            f"media inside the text are not read ({inline[0][:40]!r}); list them under `images` or "
            "`videos`, with one <image> or <video> in the text for each",
        )
    pieces = (piece for piece in MARKS.split(text) if piece)
    return tuple(Slot(kind=KINDS[piece]) if piece in KINDS else piece for piece in pieces)
