r"""A training record of any known form -> Conversation, or a DataError that names the field.

    {"id": "7", "image": "coco/1.jpg",               Conversation(
     "conversations": [                                user       Image(root/coco/1.jpg)
       {"from": "human", "value": "<image>\nWhat?"},               Text("\nWhat?")
       {"from": "gpt", "value": "A cat."}]}            assistant  Text("A cat."))

The forms are in `forms/`. Marks and media must agree: every `<image>` stands for one image and
every `<video>` for one video, in order. A record with videos alone may mark them `<image>`, as the
reference does. Media may also be under `images` and `videos`. Media elsewhere are an error.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from onevision.conversation import Conversation, Image, Message, Part, Text, Video
from onevision.data.forms.pairs import place_in_front
from onevision.data.forms.raw import RawRecord, describe, field_error, is_empty
from onevision.data.forms.table import (
    FILE_NAME,
    MEDIA_FIELDS,
    UNREAD_FIELDS,
    list_unused,
    read_talk,
)
from onevision.data.forms.turns import MediaKind, Slot, Talk, Turn
from onevision.errors import InputError, MediaError
from onevision.inputs.media_source import check_is_path, shorten

DATA_URL = re.compile(r"data:[\w/.+-]*(;[\w=.+-]+)*;base64,", re.IGNORECASE)
# Shorter texts are paths, not base64.
MIN_BASE64 = 100
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif")


@dataclass(frozen=True, kw_only=True)
class ReadRecord:
    """A record's conversation, and the fields that hold something and are not read."""

    conversation: Conversation
    unused: tuple[str, ...]


def to_conversation(record: RawRecord, *, num_frames: int | None = None) -> Conversation:
    """Returns a record's conversation; videos show at most `num_frames` frames.

    Raises DataError, whose message names source, row and field.
    """
    return read_record(record, num_frames=num_frames).conversation


def read_record(record: RawRecord, *, num_frames: int | None = None) -> ReadRecord:
    """Returns a record's conversation and what was left unread; otherwise as `to_conversation`."""
    talk = read_talk(record)
    turns = _drop_leading_answer(record, talk)
    images, videos = (_list_media(record, kind) for kind in ("image", "video"))
    shown = [p for turn in turns for p in turn.pieces if isinstance(p, Slot)]
    if not (images or videos or shown):
        _check_no_unread_media(record)
    marks = [slot for slot in shown if slot.entry is None]
    if talk.media_in_front and not marks:
        slots = [Slot(kind="image")] * len(images) + [Slot(kind="video")] * len(videos)
        turns = place_in_front(turns, slots)
    elif videos and not images:
        turns = tuple(map(_take_marks_for_videos, turns))
    _check_marks(record, turns, field=talk.field, images=len(images), videos=len(videos))
    remaining = {"image": iter(images), "video": iter(videos)}
    messages = [
        Message(
            turn.role,
            list(_parts(record, turn, remaining, num_frames=num_frames)),
            media_separator="",
            learned=turn.learned,
        )
        for turn in turns
    ]
    try:
        conversation = Conversation(messages)
    except InputError as error:
        raise field_error(record, talk.field, str(error)) from error
    return ReadRecord(conversation=conversation, unused=list_unused(record, talk))


def _drop_leading_answer(record: RawRecord, talk: Talk) -> tuple[Turn, ...]:
    """Returns the turns to learn from; the last is an answer."""
    turns = talk.turns
    # FIDELITY: a leading turn of the assistant is dropped (train.py, preprocess_qwen).
    if turns[0].role == "assistant":
        turns = turns[1:]
    if not turns or turns[-1].role != "assistant":
        raise field_error(
            record, talk.field, "the last turn is not an answer; there is nothing to learn"
        )
    if not any(turn.learned for turn in turns if turn.role == "assistant"):
        raise field_error(record, talk.field, "no answer of it is to be learned; leave it out")
    return turns


def _take_marks_for_videos(turn: Turn) -> Turn:
    """Returns a turn whose marks all stand for videos."""
    return replace(
        turn,
        pieces=tuple(
            replace(piece, kind="video")
            if isinstance(piece, Slot) and piece.entry is None
            else piece
            for piece in turn.pieces
        ),
    )


def _check_marks(
    record: RawRecord, turns: tuple[Turn, ...], *, field: str, images: int, videos: int
) -> None:
    """Refuses a record whose marks and media differ in number; in answers, marks are just text."""
    for kind, media in (("image", images), ("video", videos)):
        marks = sum(
            isinstance(piece, Slot) and piece.kind == kind and piece.entry is None
            for turn in turns
            for piece in turn.pieces
        )
        if marks != media:
            raise field_error(
                record,
                field,
                f"{marks} <{kind}> marks in the questions but {media} in the field {kind!r}; "
                "write one mark for each, where it belongs",
            )


def _parts(
    record: RawRecord,
    turn: Turn,
    remaining: dict[str, Iterator[object]],
    *,
    num_frames: int | None,
) -> Iterator[Part]:
    for piece in turn.pieces:
        if isinstance(piece, str):
            yield Text(piece)
            continue
        entry = next(remaining[piece.kind]) if piece.entry is None else piece.entry
        source = read_medium(record, piece.kind, entry)
        if piece.kind == "image":
            yield Image(source, detail=piece.detail)
        elif num_frames is None:
            yield Video(source)
        else:
            yield Video(source, num_frames=num_frames)


def _list_media(record: RawRecord, kind: MediaKind) -> list[object]:
    """Returns the media of a kind as they are written: one, a list, or none."""
    value = _either(record, kind, MEDIA_FIELDS[kind])
    name = record.fields.get(FILE_NAME)
    if is_empty(value) and isinstance(name, str) and name:
        is_video = name.lower().endswith(VIDEO_SUFFIXES)
        value = name if is_video == (kind == "video") else None
    if is_empty(value):
        return []
    return value if isinstance(value, list) else [value]


def _either(record: RawRecord, field: str, other: str) -> Any:  # Any: a value of JSON
    """Returns a field that has two names. Raises DataError if both are given and differ."""
    first, second = record.fields.get(field), record.fields.get(other)
    if is_empty(first):
        return first if is_empty(second) else second
    if not is_empty(second) and second not in (first, [first]) and first != [second]:
        raise field_error(
            record, other, f"the record also has {field!r}, with other content; keep one of them"
        )
    return first


def _check_no_unread_media(record: RawRecord) -> None:
    for name, value in record.fields.items():
        if name in UNREAD_FIELDS and not is_empty(value):
            raise field_error(
                record,
                name,
                f"media are not read from this field; name the field {UNREAD_FIELDS[name]!r}",
            )


def read_medium(record: RawRecord, field: str, entry: object) -> str | bytes:
    """Returns an image or video of a field, as bytes or as a path inside the record's root.

    Base64 and data URLs are decoded. Raises DataError.
    """
    if isinstance(entry, dict):  # Parquet: {"bytes": ..., "path": ...}
        entry = entry.get("bytes") or entry.get("path")
    if isinstance(entry, bytes):
        return entry
    if not isinstance(entry, str):
        raise field_error(
            record, field, f"it is {describe(entry)}; expected a path inside the media root"
        )
    decoded = _decode_base64(record, field, entry)
    return _find_path(record, field, entry.removeprefix("file://")) if decoded is None else decoded


def _decode_base64(record: RawRecord, field: str, text: str) -> bytes | None:
    """Returns the bytes of base64 or a data URL; None for a path or an address."""
    url = DATA_URL.match(text[:200])
    if url is None and (len(text) < MIN_BASE64 or _exists(record, text)):
        return None
    try:
        return base64.b64decode("".join(text[url.end() if url else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if url is not None:
            raise field_error(record, field, f"its base64 is damaged ({error})") from error
        return None


def _exists(record: RawRecord, text: str) -> bool:
    """Whether a text is the path of something, although it may look like base64."""
    try:
        return record.root is not None and (record.root / text).exists()
    except (OSError, ValueError):  # longer than a path may be
        return False


def _find_path(record: RawRecord, field: str, entry: str) -> str:
    """Returns a path inside the record's root, or inside one that links may lead to."""
    if entry.startswith(("http://", "https://", "s3://", "gs://", "hf://")):
        raise field_error(
            record,
            field,
            f"{shorten(entry)}: addresses are not fetched while training; download the {field} "
            "(img2dataset fetches many) and write its path",
        )
    if record.root is None:
        raise field_error(
            record,
            field,
            f"it is the path {shorten(repr(entry))}, but no media root is given; set `root`",
        )
    try:
        check_is_path(entry, name=shorten(entry), kind=field)
        path = record.root / entry
        place = path.resolve()
    except MediaError as error:
        raise field_error(record, field, str(error)) from error
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a loop of links
        raise field_error(
            record, field, f"{shorten(repr(entry))} is not a path ({error!s:.60}); correct it"
        ) from error
    roots = [_resolve(root.absolute()) for root in (record.root, *record.links)]
    if not any(map(place.is_relative_to, roots)):
        raise field_error(
            record,
            field,
            f"{shorten(repr(entry))} lies outside the media root {record.root}; move it inside, or "
            f"allow its folder: --root {record.root} --root {shorten(str(place.parent))}",
        )
    return str(path)


@cache
def _resolve(root: Path) -> Path:
    """Returns an absolute path without links: what a relative one means may change."""
    return root.resolve()
