"""Conversation -> ids and labels, by template. The only place where a conversation becomes ids.

A conversation is first spelled out as spans: control tokens, text, media. Control tokens become
numbers; text is encoded in the same chunks as the reference's rendered prompt (everything between
two control tokens or media is one chunk), so ids are equal to the reference's, and yet nothing a
user types can become a control token.

Worked example, qwen_1_5, `<image>⏎Hi` answered by `Hello`; S, E are the control tokens, · is
unlabelled, and a label stands for its own id:

    ids     S system ⏎ You are … . E ⏎ S user ⏎ <image> ⏎ Hi E ⏎ S assistant ⏎ Hello E ⏎
    labels  S   ·    ⏎  ·  ·  ·  · E ⏎ S  ·   ⏎    ·    ⏎ ·  E ⏎ S assistant ⏎ Hello E ⏎

FIDELITY: labels on the control tokens and lone newlines of every role are the reference's training
rule (llava/train/train.py, preprocess_qwen); other templates have other rules, see templates.py.
`strict` labels the assistant's words and their end alone, in every template.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from onevision.config import Template
from onevision.conversation import Conversation, Image, Message, Part, Text, Video
from onevision.errors import InputError
from onevision.inputs.templates import TEMPLATES, ChatTemplate, Turn
from onevision.inputs.tokenizer import Tokenizer

IGNORE = -100

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


@dataclass(frozen=True)
class Span:
    """A control token or some text, and whether it is labelled."""

    text: str
    labelled: bool = False
    is_control: bool = False


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
    chat, everywhere = TEMPLATES[template], frozenset[int]()
    if label_rule == "reference" and chat.labelled_text is not None:
        everywhere = tokenizer.lone_ids(chat.labelled_text)
    encoder = _Encoder(tokenizer, everywhere, pieces=_opening(tokenizer))
    for span in _spans(conversation, chat, strict=label_rule == "strict"):
        encoder.add(span)
    return encoder.finish()


def spell(conversation: Conversation, *, template: Template) -> str:
    """Return the prompt as the reference renders it, media as <image>; for people, not for ids."""
    spans = _spans(conversation, TEMPLATES[template], strict=False)
    return "".join("<image>" if isinstance(span, Slot) else span.text for span in spans)


def _spans(
    conversation: Conversation, chat: ChatTemplate, *, strict: bool
) -> Iterator[Span | Slot]:
    messages, system = list(conversation.messages), tuple[Span | Slot, ...]()
    if messages[0].role == "system":
        system = tuple(_turn(messages.pop(0), chat, strict=strict))
    elif chat.system_line:
        system = tuple(_turn(Message("system", chat.system_line), chat, strict=strict))
    if not chat.system_inside:
        yield from system
    for number, message in enumerate(messages):
        if number and message.role == "user":
            yield from _marks(chat.between, chat)
        inside = system if chat.system_inside and number == 0 else ()
        yield from _turn(message, chat, inside, strict=strict)
    if conversation.awaits_answer:
        yield from _marks(chat.assistant.head, chat)


def _turn(
    message: Message, chat: ChatTemplate, inside: Sequence[Span | Slot] = (), *, strict: bool
) -> Iterator[Span | Slot]:
    """Spell one turn, with what stands `inside` it between its head and its words."""
    turns: dict[str, Turn] = {"system": chat.system, "user": chat.user, "assistant": chat.assistant}
    turn, answer = turns[message.role], message.role == "assistant"
    labelled = () if strict else chat.labelled_marks
    whole = answer and chat.whole_answers and not strict
    yield from _marks(turn.head, chat, labelled=labelled, whole=whole)
    yield from inside
    yield Span(turn.lead, labelled=answer and not strict)
    for part in _separated(_stripped(message) if chat.strips else message):
        yield Span(part.text, labelled=answer) if isinstance(part, Text) else Slot(part)
    ended = False
    for span in _marks(turn.tail, chat, labelled=labelled, whole=answer):
        yield replace(span, labelled=span.labelled and not (strict and ended))
        ended = ended or span.text in (*chat.controls, *chat.labelled_marks)


def _marks(
    text: str, chat: ChatTemplate, *, labelled: Sequence[str] = (), whole: bool = False
) -> Iterator[Span]:
    """Spell a mark of the format; `labelled` are the parts of it that are, or the `whole`."""
    for part in chat.divided(text):
        yield Span(part, labelled=whole or part in labelled, is_control=part in chat.controls)


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
    pieces: list[Piece] = [*_opening(tokenizer), *map(Slot, media)]
    for message in rest:
        caption = "".join(part.text for part in message.parts if isinstance(part, Text))
        ids = tuple(tokenizer.encode(caption + "\n").ids)
        pieces.append(Words(ids=ids, labels=ids))
    return pieces


@dataclass
class _Encoder:
    """Turns spans into pieces; joins neighbouring text before encoding it."""

    tokenizer: Tokenizer
    everywhere: frozenset[int]  # ids that are labelled wherever they stand
    pieces: list[Piece] = field(default_factory=list)
    pending: str = ""
    labelled: bytearray = field(default_factory=bytearray)  # of every pending character
    continues: bool = False  # whether the pending text comes after a control token

    def add(self, span: Span | Slot) -> None:
        """Take the next span."""
        if isinstance(span, Span) and not span.is_control:
            self.pending += span.text
            self.labelled += bytes([span.labelled]) * len(span.text)
            return
        self._flush()
        self.continues = isinstance(span, Span)
        if isinstance(span, Slot):
            self.pieces.append(span)
            return
        token_id = self.tokenizer.id_of(span.text)
        self.pieces.append(Words((token_id,), (token_id if span.labelled else IGNORE,)))

    def finish(self) -> list[Piece]:
        """Return all pieces."""
        self._flush()
        return self.pieces

    def _flush(self) -> None:
        if not self.pending:
            return
        encoding = self.tokenizer.encode(self.pending, continues=self.continues)
        # A token belongs to the span of its last character.
        labels = tuple(
            token_id if (end and self.labelled[end - 1]) or token_id in self.everywhere else IGNORE
            for token_id, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)
        )
        self.pieces.append(Words(tuple(encoding.ids), labels))
        self.pending, self.labelled = "", bytearray()


def _opening(tokenizer: Tokenizer) -> list[Piece]:
    """Return what the tokenizer puts before every text: LLaMA's `<s>`, nothing of Qwen's."""
    ids = tokenizer.opening
    return [Words(ids, (IGNORE,) * len(ids))] if ids else []


def _separated(message: Message) -> Iterator[Part]:
    """Give the parts with the separator after media, where the text has no space of its own."""
    parts = [p for p in message.parts if not (isinstance(p, Text) and not p.text)]
    for part, following in zip_longest(parts, parts[1:]):
        yield part
        if isinstance(part, Text) or following is None:
            continue
        if not (isinstance(following, Text) and following.text[0].isspace()):
            yield Text(message.media_separator)


def _stripped(message: Message) -> Message:
    """Leave out white space before and after all that is said."""
    parts = list(message.parts)
    if parts and isinstance(first := parts[0], Text):
        parts[0] = Text(first.text.lstrip())
    if parts and isinstance(last := parts[-1], Text):
        parts[-1] = Text(last.text.rstrip())
    return replace(message, content=parts)


def _media_to_front(message: Message) -> Message:
    media = [part for part in message.parts if not isinstance(part, Text)]
    if len(media) != 1 or message.parts[0] is media[0]:
        return message
    words = "".join(part.text for part in message.parts if isinstance(part, Text)).strip()
    parts = (media[0], Text(f"\n{words}")) if words else (media[0],)
    return replace(message, content=parts)
