"""Conversation -> ids and labels, by template. The only place where a conversation becomes ids.

Control tokens are written as numbers. Words are encoded in the same chunks as the reference's
rendered prompt (everything between two control tokens or media is one chunk), so ids are equal to
the reference's, and yet nothing a user types can become a control token.

Worked example, qwen_1_5, `<image>⏎Hi` answered by `Hello`; S, E are the control tokens, · is
unlabelled, and a label stands for its own id:

    ids     S system ⏎ You are … . E ⏎ S user ⏎ <image> ⏎ Hi E ⏎ S assistant ⏎ Hello E ⏎
    labels  S   ·    ⏎  ·  ·  ·  · E ⏎ S  ·   ⏎    ·    ⏎ ·  E ⏎ S assistant ⏎ Hello E ⏎

FIDELITY: labels on the control tokens and lone newlines of every role are the reference's training
rule (llava/train/train.py, preprocess_qwen). `strict` labels the assistant's words alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from onevision.config import Template
from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.errors import InputError
from onevision.inputs.tokenizer import IM_END, IM_START, Tokenizer

IGNORE = -100
SYSTEM_LINE = "You are a helpful assistant."

LabelRule = Literal["reference", "strict"]


@dataclass(frozen=True)
class Slot:
    """The place of one image or video among the ids."""

    media: Image | Video


@dataclass(frozen=True)
class Words:
    """A run of ids and the label of each (IGNORE where none)."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


Piece = Slot | Words


def render(
    conversation: Conversation,
    tokenizer: Tokenizer,
    *,
    template: Template,
    label_rule: LabelRule = "reference",
    image_first: bool = False,
) -> list[Piece]:
    """Return the conversation as ids and media slots, ready for an answer if it awaits one.

    `image_first` moves the only image of a turn to its front. FIDELITY: the reference does so in
    training, and there alone.
    """
    if image_first:
        conversation = replace(
            conversation, messages=[_media_to_front(m) for m in conversation.messages]
        )
    if template == "plain":
        return _render_plain(conversation, tokenizer)
    return _render_chatml(conversation, tokenizer, label_rule)


def _render_chatml(
    conversation: Conversation, tokenizer: Tokenizer, label_rule: LabelRule
) -> list[Piece]:
    writer = _Writer(tokenizer, label_rule)
    if conversation.messages[0].role != "system":
        writer.turn("system", (Text(SYSTEM_LINE),))
    for message in conversation.messages:
        writer.turn(message.role, _separated(message))
    if conversation.awaits_answer:
        writer.control(IM_START)
        writer.text("assistant\n", labelled_from=None)
    return writer.finish()


def _render_plain(conversation: Conversation, tokenizer: Tokenizer) -> list[Piece]:
    """One caption after its media, without roles; the user's words are left out.

    FIDELITY: the rule of the alignment stage (preprocess_plain); caption and newline are labelled.
    """
    user, *rest = conversation.messages
    media = [part for part in user.parts if not isinstance(part, Text)]
    if user.role != "user" or len(rest) > 1 or not media:
        raise InputError(
            "the plain template takes one user message with an image or a video, "
            "and at most its caption; use a chat template for conversations"
        )
    pieces: list[Piece] = [Slot(part) for part in media]
    for message in rest:
        caption = "".join(part.text for part in message.parts if isinstance(part, Text))
        ids = tuple(tokenizer.encode(caption + "\n").ids)
        pieces.append(Words(ids=ids, labels=ids))
    return pieces


@dataclass
class _Writer:
    """Collects control tokens, text and media; joins neighbouring text before encoding it."""

    tokenizer: Tokenizer
    label_rule: LabelRule
    pieces: list[Piece] = field(default_factory=list)
    pending: str = ""
    labelled_from: int | None = None  # first labelled character of the pending text

    def turn(self, role: str, parts: Iterator[Text | Image | Video] | tuple[Text, ...]) -> None:
        """Write `<|im_start|>role⏎ … <|im_end|>⏎`."""
        answer = role == "assistant"
        strict = self.label_rule == "strict"
        self.control(IM_START, labelled=not strict)
        header = f"{role}\n"
        self.text(header, labelled_from=(len(header) if strict else 0) if answer else None)
        for part in parts:
            if isinstance(part, Text):
                self.text(part.text, labelled_from=0 if answer else None)
            else:
                self.slot(part)
        self.control(IM_END, labelled=answer or not strict)
        self.text("\n", labelled_from=0 if answer and not strict else None)

    def control(self, token: str, *, labelled: bool = False) -> None:
        self._flush()
        token_id = self.tokenizer.id_of(token)
        self.pieces.append(Words((token_id,), (token_id if labelled else IGNORE,)))

    def slot(self, media: Image | Video) -> None:
        self._flush()
        self.pieces.append(Slot(media))

    def text(self, text: str, *, labelled_from: int | None) -> None:
        if self.labelled_from is None and labelled_from is not None:
            self.labelled_from = len(self.pending) + labelled_from
        self.pending += text

    def finish(self) -> list[Piece]:
        self._flush()
        return self.pieces

    def _flush(self) -> None:
        if not self.pending:
            return
        encoding = self.tokenizer.encode(self.pending)
        start = len(self.pending) if self.labelled_from is None else self.labelled_from
        newline = None if self.label_rule == "strict" else self.tokenizer.newline_id
        labels = tuple(
            token_id if end > start or token_id == newline else IGNORE
            for token_id, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)
        )
        self.pieces.append(Words(tuple(encoding.ids), labels))
        self.pending, self.labelled_from = "", None


def _separated(message: Message) -> Iterator[Text | Image | Video]:
    """Give the parts with the separator after media, where the text has no space of its own."""
    parts = [p for p in message.parts if not (isinstance(p, Text) and not p.text)]
    for part, following in zip_longest(parts, parts[1:]):
        yield part
        if isinstance(part, Text) or following is None:
            continue
        if not (isinstance(following, Text) and following.text[0].isspace()):
            yield Text(message.media_separator)


def _media_to_front(message: Message) -> Message:
    media = [part for part in message.parts if not isinstance(part, Text)]
    if len(media) != 1 or message.parts[0] is media[0]:
        return message
    words = "".join(part.text for part in message.parts if isinstance(part, Text)).strip()
    parts = (media[0], Text(f"\n{words}")) if words else (media[0],)
    return replace(message, content=parts)
