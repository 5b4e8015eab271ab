r"""A training record in LLaVA's format -> Conversation, or a DataError that names the field.

    {"id": "7", "image": "coco/1.jpg",               Conversation(
     "conversations": [                                user       Image(root/coco/1.jpg)
       {"from": "human", "value": "<image>\nWhat?"},               Text("\nWhat?")
       {"from": "gpt", "value": "A cat."}]}            assistant  Text("A cat."))

Marks and media must agree: every `<image>` stands for one image and every `<video>` for one video,
in order. A record with videos alone may mark them `<image>`, as the reference does.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from onevision.conversation import Conversation, Image, Message, Part, Role, Text, Video
from onevision.errors import DataError, InputError

# Any: whatever a JSON or Parquet file holds; it is checked here.
Fields = Mapping[str, Any]

MARKS = re.compile(r"(<image>|<video>)")
ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """A record as it lies in its source, and its name for messages ("train.json, row 12")."""

    where: str
    fields: Fields
    # Where relative media paths start; None if the source holds the bytes of its media.
    root: Path | None


def to_conversation(record: RawRecord, *, num_frames: int | None = None) -> Conversation:
    """Returns a record's conversation; videos show at most `num_frames` frames.

    Raises DataError, whose message names source, row and field.
    """
    images = [Image(m) for m in _media(record, "image")]
    videos = [Video(m) for m in _media(record, "video")]
    if num_frames is not None:
        videos = [replace(video, num_frames=num_frames) for video in videos]
    turns = _turns(record)
    _check_marks(record, turns, num_images=len(images), num_videos=len(videos))
    remaining: dict[str, Iterator[Image | Video]] = {
        "<image>": iter(images or videos),
        "<video>": iter(videos),
    }
    if videos and not images:
        remaining["<video>"] = remaining["<image>"]
    messages = [
        Message(role, list(_parts(text, remaining)), media_separator="")
        if role == "user"
        else Message(role, text)
        for role, text in turns
    ]
    try:
        return Conversation(messages)
    except InputError as error:
        raise field_error(record, "conversations", str(error)) from error


def _turns(record: RawRecord) -> list[tuple[Role, str]]:
    """Returns the role and text of every turn; the last is an answer."""
    raw = record.fields.get("conversations", record.fields.get("messages"))
    if not isinstance(raw, list) or not raw:
        raise field_error(
            record, "conversations", f"it is {_kind(raw)}; expected a list of {{from, value}}"
        )
    turns = [_turn(record, turn, number) for number, turn in enumerate(raw)]
    # FIDELITY: a leading turn of the assistant is dropped (train.py, preprocess_qwen).
    if turns[0][0] == "assistant":
        turns = turns[1:]
    if not turns or turns[-1][0] != "assistant":
        raise field_error(
            record, "conversations", "the last turn is not an answer; there is nothing to learn"
        )
    return turns


def _turn(record: RawRecord, turn: object, number: int) -> tuple[Role, str]:
    field = f"conversations[{number}]"
    if not isinstance(turn, Mapping):
        raise field_error(record, field, f"it is {_kind(turn)}; expected {{from, value}}")
    speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise field_error(
            record, field, f"its speaker is {speaker!r}; expected one of {', '.join(ROLES)}"
        )
    if not isinstance(text, str):
        raise field_error(record, field, f"its text is {_kind(text)}; expected a string")
    if ROLES[speaker] == "assistant" and not text.strip():
        raise field_error(record, field, "the answer is empty; give one or remove the turn")
    return ROLES[speaker], text


def _check_marks(
    record: RawRecord, turns: list[tuple[Role, str]], *, num_images: int, num_videos: int
) -> None:
    """Refuses a record whose marks and media differ in number; in answers, marks are just text."""
    text = "".join(text for role, text in turns if role == "user")
    image_marks, video_marks = text.count("<image>"), text.count("<video>")
    if num_videos and not num_images:
        image_marks, video_marks = 0, image_marks + video_marks
    for mark, marks, media, name in (
        ("<image>", image_marks, num_images, "image"),
        ("<video>", video_marks, num_videos, "video"),
    ):
        if marks != media:
            raise field_error(
                record,
                "conversations",
                f"{marks} {mark} marks in the questions but {media} in the field {name!r}; "
                "write one mark for each, where it belongs",
            )


def _parts(text: str, remaining: Mapping[str, Iterator[Image | Video]]) -> Iterator[Part]:
    for piece in MARKS.split(text):
        if piece in remaining:
            yield next(remaining[piece])
        elif piece:
            yield Text(piece)


def _media(record: RawRecord, field: str) -> list[str | bytes]:
    """Returns the media of a field: one, a list, or none."""
    value = record.fields.get(field)
    if value is None and field == "image":
        value = record.fields.get("images")
    if value is None or value == "":
        return []
    entries = value if isinstance(value, list) else [value]
    return [read_medium(record, field, entry) for entry in entries]


def read_medium(record: RawRecord, field: str, entry: object) -> str | bytes:
    """Returns an image or video of a field, as bytes or as a path inside the record's root.

    Raises DataError.
    """
    if isinstance(entry, Mapping):  # Parquet: {"bytes": ..., "path": ...}
        entry = entry.get("bytes") or entry.get("path")
    if isinstance(entry, bytes):
        return entry
    if not isinstance(entry, str):
        raise field_error(
            record, field, f"it is {_kind(entry)}; expected a path inside the media root"
        )
    if record.root is None:
        raise field_error(
            record, field, f"it is the path {entry!r}, but no media root is given; set `root`"
        )
    path = record.root / entry
    if not path.resolve().is_relative_to(_resolved(record.root)):
        raise field_error(
            record, field, f"{entry!r} lies outside the media root {record.root}; move it inside"
        )
    return str(path)


@cache
def _resolved(root: Path) -> Path:
    return root.resolve()


def field_error(record: RawRecord, field: str, problem: str) -> DataError:
    """Returns an error that names record and field."""
    return DataError(f"{record.where}, field {field!r}: {problem}")


def _kind(value: object) -> str:
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
