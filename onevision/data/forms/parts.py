"""The content parts of a message, as OpenAI and others write them -> words and slots.

{"type": "text", "text": "What?"}
{"type": "image_url", "image_url": {"url": "data:image/png;base64,...", "detail": "low"}}
{"type": "image", "image": "a.png"}       also "url", "path"; Anthropic's "source"
{"type": "image"}                         the next of the record's `images`
{"type": "video", "video": "a.mp4"}       also "video_url"
"""

from collections.abc import Mapping

from onevision.conversation import Detail, Role
from onevision.data.forms.raw import RawRecord, describe, field_error
from onevision.data.forms.turns import MediaKind, Slot, mark_text

TEXTS = ("text", "input_text", "output_text")
MEDIA: Mapping[str, MediaKind] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
}
# Keys of a media part that hold the medium.
HOLDERS = ("image_url", "video_url", "image", "video", "url", "path", "base64", "data", "source")
DETAILS: tuple[Detail, ...] = ("auto", "low", "high")
PART_KEYS = ("type", "text", "detail", "index", *HOLDERS)


def read_parts(
    record: RawRecord, parts: list[object], *, role: Role, field: str
) -> tuple[tuple[str | Slot, ...], tuple[str, ...]]:
    """Returns the words and slots of content parts, and the keys that were not used.

    Raises DataError for a part of unknown type, and for media outside of questions.
    """
    pieces: list[str | Slot] = []
    unused: dict[str, None] = {}
    for number, part in enumerate(parts):
        here = f"{field}[{number}]"
        if isinstance(part, str):
            pieces.append(part)
            continue
        if not isinstance(part, Mapping):
            raise field_error(record, here, f"it is {describe(part)}; expected {{type, ...}}")
        given = {key: value for key, value in part.items() if value is not None}
        unused |= dict.fromkeys(f"content[].{key}" for key in given if key not in PART_KEYS)
        pieces.append(_read_part(record, given, field=here))
    if role != "user" and any(isinstance(piece, Slot) for piece in pieces):
        raise field_error(record, field, f"media in a turn of the {role}; only questions show any")
    if role == "assistant":  # an answer must say something
        mark_text(record, "".join(map(str, pieces)), role=role, field=field)
    return tuple(pieces), tuple(unused)


def _read_part(record: RawRecord, part: Mapping[str, object], *, field: str) -> str | Slot:
    kind = part.get("type") or next((key for key in ("text", *MEDIA) if key in part), None)
    if kind in TEXTS:
        text = part.get("text")
        if not isinstance(text, str):
            raise field_error(record, field, f"its text is {describe(text)}; expected a string")
        return text
    if not isinstance(kind, str) or kind not in MEDIA:
        raise field_error(
            record,
            field,
            f"its type is {describe(kind)}; expected one of {', '.join(('text', *MEDIA))}",
        )
    entry, detail = _find_entry(record, part, field=field), part.get("detail", "auto")
    if isinstance(entry, Mapping) and "url" in entry:
        entry, detail = entry["url"], entry.get("detail") or detail
    if detail not in DETAILS:
        raise field_error(
            record, field, f"detail is {describe(detail)}; expected one of {', '.join(DETAILS)}"
        )
    return Slot(kind=MEDIA[kind], entry=entry, detail=DETAILS[DETAILS.index(detail)])


def _find_entry(record: RawRecord, part: Mapping[str, object], *, field: str) -> object:
    """Returns the medium of a part; None if it is the next of the record's own field."""
    found = [key for key in HOLDERS if key in part]
    if len(found) > 1:
        raise field_error(record, field, f"it has {' and '.join(found)}; give one of them")
    if not found:
        return None
    entry = part[found[0]]
    if found[0] == "source" and isinstance(entry, Mapping):
        entry = entry.get("data", entry.get("url"))
    if isinstance(entry, str) and found[0] in ("base64", "data"):
        entry = f"data:;base64,{entry}"
    if not entry:
        raise field_error(record, field, f"its {found[0]} is {describe(entry)}; expected a medium")
    return entry
