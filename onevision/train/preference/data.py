r"""Preference records -> rows of two branches, a chosen and a rejected answer about the same media.

    {"id": "7", "image": "coco/1.jpg",        or "video"; a path below the media root, or a list
     "prompt": "<image>\nWhat is this?",      without a mark, the media come first
     "chosen": "A cat.", "rejected": "A dog."}

Both answers continue the same media, so one row holds the pair (`share_prefix`): the media pass the
vision encoder once and their tokens, by far the most of a row, pass the language model once; the
branches see them and not each other. The reference reads everything twice.

    media media media  prompt chosen  prompt rejected
    prefix             branch 1       branch 2
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor

from onevision.batch import TrainingBatch
from onevision.config import InputConfig
from onevision.conversation import Conversation, Message
from onevision.data.packing import PackedRow, collate, join, share_prefix
from onevision.data.records import MARKS, RawRecord, to_conversation
from onevision.data.sources import open_source
from onevision.errors import DataError
from onevision.inputs.chat import IGNORE, Piece, Slot, Words, render
from onevision.inputs.processor import Example, Processor

CHOSEN, REJECTED = 1, 2  # branches of a pair's row


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One prompt with its media, and two answers of which the first was preferred."""

    id: str
    prompt: Message
    chosen: str
    rejected: str

    def conversations(self) -> tuple[Conversation, Conversation]:
        """Return the prompt with the chosen answer, and with the rejected one."""
        chosen, rejected = (Message("assistant", text) for text in (self.chosen, self.rejected))
        return Conversation([self.prompt, chosen]), Conversation([self.prompt, rejected])


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A question that waits for answers, and its record's fields, so that pairs can repeat them."""

    id: str
    message: Message
    fields: Mapping[str, object]  # "prompt", and "image" or "video": paths as they were written


@dataclass(frozen=True, kw_only=True)
class PreferenceBatch:
    """P pairs in one row, packed. Scored positions go pair by pair, the chosen answer first."""

    batch: TrainingBatch
    num_tokens: Tensor  # [P, 2] int64, scored positions of each chosen and rejected answer
    keys: tuple[str, ...]  # of each pair, by content

    def to(self, device: torch.device | str) -> "PreferenceBatch":
        """Return the batch on `device`; the counts stay where they are."""
        return replace(self, batch=self.batch.to(device))


def read_preferences(
    path: Path, *, root: Path | None = None, num_frames: int | None = None
) -> list[Preference]:
    """Read a file of preferences: JSON lines, or any format `open_source` knows.

    Media lie below `root`, by default the file's directory; `num_frames` bounds videos. No medium
    is opened. Raises DataError, whose message names source, row and field, at the first bad row.
    """
    source = open_source(path, root=root)
    return [to_preference(source.read(row), num_frames=num_frames) for row in range(len(source))]


def read_prompts(
    path: Path, *, root: Path | None = None, num_frames: int | None = None
) -> list[Prompt]:
    """Read a file of preferences that have no answers yet; else as `read_preferences`.

    Raises DataError, also for two prompts of the same id and for media that are no paths.
    """
    source = open_source(path, root=root)
    prompts = [to_prompt(source.read(row), num_frames=num_frames) for row in range(len(source))]
    if not prompts:
        raise DataError(f"{path}: it has no prompt; give a file of prompts")
    seen: dict[str, int] = {}
    for row, prompt in enumerate(prompts):
        if seen.setdefault(prompt.id, row) != row:
            raise DataError(
                f"{path}, row {row}, field 'id': {prompt.id!r} is that of row {seen[prompt.id]} "
                "too; give each prompt its own, or none any"
            )
    return prompts


def to_prompt(record: RawRecord, *, num_frames: int | None = None) -> Prompt:
    """Return the prompt a record tells; answers in it are not read. Raises DataError."""
    name, media = _media(record)
    if not all(isinstance(medium, str) for medium in media):
        raise _wrong(record, name, "it holds bytes; pairs are written as text, so give paths")
    fields = {"prompt": _text(record, "prompt")} | ({name: media} if media else {})
    return Prompt(id=_id(record), message=_prompt(record, num_frames=num_frames), fields=fields)


def to_preference(record: RawRecord, *, num_frames: int | None = None) -> Preference:
    """Return the preference a record tells. Raises DataError."""
    chosen, rejected = _text(record, "chosen"), _text(record, "rejected")
    if chosen.strip() == rejected.strip():
        raise _wrong(record, "rejected", "it equals 'chosen'; there is nothing to prefer")
    return Preference(
        id=_id(record),
        prompt=_prompt(record, num_frames=num_frames),
        chosen=chosen,
        rejected=rejected,
    )


def preference_row(preference: Preference, processor: Processor) -> PackedRow:
    """Prepare a pair as one row; its media are decoded once. Raises InputError, MediaError.

    FIDELITY: the answer and its end are labelled, nothing else. The reference also scores control
    tokens of the other turns; they are the same for both answers, so they cancel in the margin.
    """
    chosen, rejected = preference.conversations()
    outline = processor.outline(chosen, label_rule="strict")
    pieces = render(
        rejected,
        processor.tokenizer,
        template=processor.config.template,
        label_rule="strict",
    )
    example = processor.example(outline)
    return share_prefix([example, _with_last_words(example, outline.pieces, pieces)])


def preference_batch(rows: Sequence[PackedRow], config: InputConfig) -> PreferenceBatch:
    """Pack the rows of P pairs into one, without padding."""
    return PreferenceBatch(
        batch=collate([join(rows)], config),
        num_tokens=torch.stack([_count_scored(row) for row in rows]),
        keys=tuple(content_key(row) for row in rows),
    )


def content_key(row: PackedRow) -> str:
    """Return what changes when anything does that the model reads or learns of a pair."""
    digest = hashlib.blake2b(repr(row.layouts).encode(), digest_size=16)
    for tensor in (row.input_ids, row.labels, row.branch, row.crops):
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _count_scored(row: PackedRow) -> Tensor:
    """Count the scored positions of both answers: [2]."""
    scored = row.branch[(row.labels != IGNORE) & (row.previous >= 0)]
    return torch.bincount(scored, minlength=REJECTED + 1)[CHOSEN:]


def _with_last_words(example: Example, pieces: Sequence[Piece], others: Sequence[Piece]) -> Example:
    """Put the words after the last medium of `others` in place of those of `pieces`."""
    ids, labels = _last_words(others)
    kept = len(example.input_ids) - len(_last_words(pieces)[0])
    return replace(
        example,
        input_ids=torch.cat([example.input_ids[:kept], ids]),
        labels=torch.cat([example.labels[:kept], labels]),
        visual_mask=torch.cat([example.visual_mask[:kept], torch.zeros(len(ids)).bool()]),
    )


def _last_words(pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """Return ids and labels after the last slot; of text alone, all."""
    backwards = takewhile(lambda piece: not isinstance(piece, Slot), reversed(pieces))
    words = [piece for piece in reversed(list(backwards)) if isinstance(piece, Words)]
    ids = [token for piece in words for token in piece.ids]
    return torch.tensor(ids), torch.tensor([label for piece in words for label in piece.labels])


def _id(record: RawRecord) -> str:
    return str(record.fields.get("id", record.where))


def _prompt(record: RawRecord, *, num_frames: int | None) -> Message:
    """Return what the user says, media in their places."""
    name, media = _media(record)
    turns = [
        {"from": "human", "value": _marked(record, name, len(media))},
        {"from": "gpt", "value": "-"},  # the conversation of a record ends with an answer
    ]
    told = replace(record, fields={name: media, "conversations": turns})
    return to_conversation(told, num_frames=num_frames).messages[0]


def _media(record: RawRecord) -> tuple[str, list[object]]:
    """Return which of "image" and "video" the record has, and its entries."""
    fields = record.fields
    image, video = fields.get("image") or fields.get("images"), fields.get("video")
    if image and video:
        raise _wrong(record, "video", "the record has an image as well; give one or the other")
    value = video or image or []
    return "video" if video else "image", value if isinstance(value, list) else [value]


def _marked(record: RawRecord, name: str, num_media: int) -> str:
    """Return the prompt with one mark for each medium.

    FIDELITY: a prompt without marks has its media in front, each on its line, as the reference
    puts the one image it allows. Marks that were written stay where they are.
    """
    prompt = _text(record, "prompt")
    marks = MARKS.findall(prompt)
    if not marks:
        return f"<{name}>\n" * num_media + (prompt.strip() if num_media else prompt)
    allowed = ("<image>", "<video>") if name == "video" else ("<image>",)
    if len(marks) != num_media or not set(marks) <= set(allowed):
        raise _wrong(
            record,
            "prompt",
            f"it has the marks {' '.join(marks)} but {num_media} media are in the field "
            f"{name!r}; write one {allowed[-1]} for each, where it is meant, or none",
        )
    return prompt


def _text(record: RawRecord, field: str) -> str:
    value = record.fields.get(field)
    if value is None:
        raise _wrong(record, field, "it is missing; expected a string")
    if not isinstance(value, str):
        raise _wrong(
            record, field, f"it is {type(value).__name__} {str(value)[:40]!r}; expected a string"
        )
    if not value.strip():
        raise _wrong(record, field, "it is empty; give its words or remove the record")
    return value


def _wrong(record: RawRecord, field: str, problem: str) -> DataError:
    return DataError(f"{record.where}, field {field!r}: {problem}")
