r"""Preference records -> rows of two branches: a chosen and a rejected answer about the same media.

    {"id": "7", "image": "coco/1.jpg",        or "video"; a path below the media root, or a list
     "prompt": "<image>\nWhat is this?",      without a marker, the media come first
     "chosen": "A cat.", "rejected": "A dog."}

Both answers continue the same media, so one row holds the pair (`share_prefix`). The media pass the
vision encoder once, and their tokens, by far the most of a row, pass the language model once; each
branch sees them but not the other branch. The reference processes everything twice.

    media media media  prompt chosen  prompt rejected
    prefix             branch 1       branch 2
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor

from onevision.conversation import Conversation, Message
from onevision.data.forms.raw import RawRecord
from onevision.data.forms.turns import MARKS
from onevision.data.packing import PackedRow, share_prefix
from onevision.data.records import to_conversation
from onevision.data.sources import open_source
from onevision.errors import DataError
from onevision.inputs.chat import MediaSlot, Piece, TokenRun
from onevision.inputs.processor import Example, Processor


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One prompt with its media, and two answers, of which the first was preferred."""

    id: str
    prompt: Message
    chosen: str
    rejected: str

    def conversations(self) -> tuple[Conversation, Conversation]:
        """Returns the prompt with the chosen answer, and with the rejected one."""
        chosen, rejected = (Message("assistant", text) for text in (self.chosen, self.rejected))
        return Conversation([self.prompt, chosen]), Conversation([self.prompt, rejected])


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt without answers yet, and its record's fields, for the pairs made from it."""

    id: str
    message: Message
    fields: Mapping[str, object]  # "prompt", and "image" or "video": paths as written


def read_preferences(
    path: Path, *, root: Path | None = None, num_frames: int | None = None
) -> list[Preference]:
    """Reads a file of preferences: JSON lines, or any format `open_source` reads.

    Media paths are relative to `root`, by default the file's directory; `num_frames` limits videos.
    No medium is opened. Raises DataError at the first bad row, naming source, row and field.
    """
    source = open_source(path, root=root)
    return [to_preference(source.read(row), num_frames=num_frames) for row in range(len(source))]


def read_prompts(
    path: Path, *, root: Path | None = None, num_frames: int | None = None
) -> list[Prompt]:
    """Reads a file of preferences without answers; otherwise as `read_preferences`.

    Raises DataError, also for two prompts with the same id and for media that are not paths.
    """
    source = open_source(path, root=root)
    prompts = [to_prompt(source.read(row), num_frames=num_frames) for row in range(len(source))]
    check_ids(path, [prompt.id for prompt in prompts])
    return prompts


def check_ids(path: Path, ids: Sequence[str]) -> None:
    """Raises DataError for a file without prompts, and for two prompts with the same id."""
    if not ids:
        raise DataError(f"{path}: it has no prompt; give a file of prompts")
    seen: dict[str, int] = {}
    for row, own in enumerate(ids):
        if seen.setdefault(own, row) != row:
            raise DataError(
                f"{path}, row {row}, field 'id': {own!r} is also the id of row {seen[own]}; give "
                "each prompt its own id, or give none an id"
            )


def to_prompt(record: RawRecord, *, num_frames: int | None = None) -> Prompt:
    """Returns the prompt of a record; answers in it are ignored. Raises DataError."""
    name, media = _media(record)
    if not all(isinstance(medium, str) for medium in media):
        raise _fault(record, name, "it holds bytes; pairs are written as text, so give paths")
    fields = {"prompt": _text(record, "prompt")} | ({name: media} if media else {})
    return Prompt(id=_id(record), message=_prompt(record, num_frames=num_frames), fields=fields)


def to_preference(record: RawRecord, *, num_frames: int | None = None) -> Preference:
    """Returns the preference of a record. Raises DataError."""
    chosen, rejected = _text(record, "chosen"), _text(record, "rejected")
    if chosen.strip() == rejected.strip():
        raise _fault(record, "rejected", "it equals 'chosen'; there is nothing to prefer")
    return Preference(
        id=_id(record),
        prompt=_prompt(record, num_frames=num_frames),
        chosen=chosen,
        rejected=rejected,
    )


def preference_row(preference: Preference, processor: Processor) -> PackedRow:
    """Prepares a pair as one row; its media are decoded once. Raises InputError, MediaError.

    FIDELITY: the answer and its end are labelled, nothing else. The reference also scores control
    tokens of the other turns; they are the same for both answers, so they cancel in the margin.
    """
    chosen, rejected = preference.conversations()
    outline = processor.outline(chosen, label_rule="strict")
    pieces = processor.pieces(rejected, outline, label_rule="strict")
    example = processor.example(outline)
    return share_prefix([example, _with_last_words(example, outline.pieces, pieces)])


def _with_last_words(example: Example, pieces: Sequence[Piece], others: Sequence[Piece]) -> Example:
    """Replaces the words after the last medium of `pieces` by those of `others`."""
    ids, labels = _last_words(others)
    kept = len(example.input_ids) - len(_last_words(pieces)[0])
    return replace(
        example,
        input_ids=torch.cat([example.input_ids[:kept], ids]),
        labels=torch.cat([example.labels[:kept], labels]),
        visual_mask=torch.cat([example.visual_mask[:kept], torch.zeros(len(ids)).bool()]),
    )


def _last_words(pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """Returns ids and labels after the last slot; of text alone, all."""
    backwards = takewhile(lambda piece: not isinstance(piece, MediaSlot), reversed(pieces))
    words = [piece for piece in reversed(list(backwards)) if isinstance(piece, TokenRun)]
    ids = [token for piece in words for token in piece.ids]
    return torch.tensor(ids), torch.tensor([label for piece in words for label in piece.labels])


def _id(record: RawRecord) -> str:
    return str(record.fields.get("id", record.where))


def _prompt(record: RawRecord, *, num_frames: int | None) -> Message:
    """Returns the user's message, media in their places."""
    name, media = _media(record)
    turns = [
        {"from": "human", "value": _mark_media(record, name, len(media))},
        {"from": "gpt", "value": "-"},  # the conversation of a record ends with an answer
    ]
    marked = replace(record, fields={name: media, "conversations": turns})
    return to_conversation(marked, num_frames=num_frames).messages[0]


def _media(record: RawRecord) -> tuple[str, list[object]]:
    """Returns which of "image" and "video" the record has, and its entries."""
    fields = record.fields
    image, video = fields.get("image") or fields.get("images"), fields.get("video")
    if image and video:
        raise _fault(record, "video", "the record has an image as well; give one or the other")
    value = video or image or []
    return "video" if video else "image", value if isinstance(value, list) else [value]


def _mark_media(record: RawRecord, name: str, num_media: int) -> str:
    """Returns the prompt with one marker per medium.

    FIDELITY: a prompt without markers has its media in front, each on its own line, as the
    reference places the one image it allows. Markers in the prompt stay where they are.
    """
    prompt = _text(record, "prompt")
    marks = MARKS.findall(prompt)
    if not marks:
        return f"<{name}>\n" * num_media + (prompt.strip() if num_media else prompt)
    allowed = ("<image>", "<video>") if name == "video" else ("<image>",)
    if len(marks) != num_media or not set(marks) <= set(allowed):
        raise _fault(
            record,
            "prompt",
            f"it has the markers {' '.join(marks)} but {num_media} media are in the field "
            f"{name!r}; write one {allowed[-1]} per medium, where it belongs, or none",
        )
    return prompt


def _text(record: RawRecord, field: str) -> str:
    value = record.fields.get(field)
    if value is None:
        raise _fault(record, field, "it is missing; expected a string")
    if not isinstance(value, str):
        raise _fault(
            record, field, f"it is {type(value).__name__} {str(value)[:40]!r}; expected a string"
        )
    if not value.strip():
        raise _fault(record, field, "it is empty; write something or remove the record")
    return value


def _fault(record: RawRecord, field: str, problem: str) -> DataError:
    return DataError(f"{record.where}, field {field!r}: {problem}")
