r"""A training record in LLaVA's format -> Conversation, or a DataError that names the field.

    {"id": "7", "image": "coco/1.jpg",               Conversation(
     "conversations": [                                user       Image(root/coco/1.jpg)
       {"from": "human", "value": "<image>\nWhat?"},               Text("\nWhat?")
       {"from": "gpt", "value": "A cat."}]}            assistant  Text("A cat."))

Marks and media must agree: every `<image>` stands for one image and every `<video>` for one video,
in order. A record with videos alone may mark them `<image>`, as the reference does. Media may also
be under `images` and `videos`, turns under `messages`. Media elsewhere are an error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from onevision.conversation import Conversation, Image, Message, Part, Role, Text, Video
from onevision.errors import DataError, InputError, MediaError
from onevision.inputs.media_source import check_is_path, shorten

# Any: whatever a JSON or Parquet file holds; it is checked here.
Fields = Mapping[str, Any]

# Where a record may hold its media; one of each pair is used.
MEDIA_FIELDS: Mapping[str, str] = {"image": "images", "video": "videos"}
# Where other formats hold media. Such a record would be learned as if it showed nothing.
UNREAD_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("image_path", "image_paths", "image_file", "image_files", "image_url", "image_urls",
         "image_bytes", "img", "imgs", "img_path", "picture", "pictures", "photo"),
        "image",
    ),
    **dict.fromkeys(("video_path", "video_paths", "video_file", "video_url", "clip"), "video"),
    **dict.fromkeys(("audio", "audios", "audio_path", "sound"), ""),
}  # fmt: skip

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
    # Further directories that links below the root may lead to.
    links: tuple[Path, ...] = ()


def to_conversation(record: RawRecord, *, num_frames: int | None = None) -> Conversation:
    """Returns a record's conversation; videos show at most `num_frames` frames.

    Raises DataError, whose message names source, row and field.
    """
    images = [Image(m) for m in _media(record, "image")]
    videos = [Video(m) for m in _media(record, "video")]
    if not (images or videos):
        _check_no_unread_media(record)
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
    raw = _either(record, "conversations", "messages")
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
            record,
            field,
            f"its speaker is {shorten(repr(speaker))}; expected one of {', '.join(ROLES)}",
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
    value = _either(record, field, MEDIA_FIELDS[field])
    if _is_empty(value):
        return []
    entries = value if isinstance(value, list) else [value]
    return [read_medium(record, field, entry) for entry in entries]


def _either(record: RawRecord, field: str, other: str) -> Any:
    """Returns a field that has two names. Raises DataError if both are given and differ."""
    first, second = record.fields.get(field), record.fields.get(other)
    if _is_empty(first):
        return first if _is_empty(second) else second
    if not _is_empty(second) and second not in (first, [first]) and first != [second]:
        raise field_error(
            record, other, f"the record also has {field!r}, with other content; keep one of them"
        )
    return first


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, (str, list)) and not value)


def _check_no_unread_media(record: RawRecord) -> None:
    for name, value in record.fields.items():
        if name not in UNREAD_FIELDS or _is_empty(value):
            continue
        known = UNREAD_FIELDS[name]
        advice = f"name the field {known!r}" if known else "the model has no sound; leave it out"
        raise field_error(record, name, f"media are not read from this field; {advice}")


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
            record,
            field,
            f"it is the path {shorten(repr(entry))}, but no media root is given; set `root`",
        )
    try:
        check_is_path(entry, name=shorten(entry), kind=field)
        path = record.root / entry
        place = path.resolve()
        is_inside = any(map(place.is_relative_to, map(_resolve, (record.root, *record.links))))
    except MediaError as error:
        raise field_error(record, field, str(error)) from error
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a loop of links
        raise field_error(
            record, field, f"{shorten(repr(entry))} is not a path ({error!s:.60}); correct it"
        ) from error
    if not is_inside:
        raise field_error(
            record,
            field,
            f"{shorten(repr(entry))} lies outside the media root {record.root}; move it inside, or "
            f"allow its folder: --root {record.root} --root {shorten(str(place.parent))}",
        )
    return str(path)


@cache
def _resolve(root: Path) -> Path:
    return root.resolve()


def field_error(record: RawRecord, field: str, problem: str) -> DataError:
    """Returns an error that names record and field."""
    return DataError(f"{record.where}, field {field!r}: {problem}")


def _kind(value: object) -> str:
    return "missing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
