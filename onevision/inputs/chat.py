"""Conversation -> token ids and labels, by chat template. The only place that makes prompts.

A conversation is first split into spans: control tokens, text, media. Control tokens become ids
directly; the text between two control tokens or media is encoded as one chunk, as in the
reference's rendered prompt. So ids equal the reference's, and nothing that a user types can become
a control token.

Worked example: qwen_1_5, `<image>⏎Hi` answered by `Hello`. S and E are the control tokens, · is
unlabelled, every other label is its own id:

    ids     S system ⏎ You are … . E ⏎ S user ⏎ <image> ⏎ Hi E ⏎ S assistant ⏎ Hello E ⏎
    labels  S   ·    ⏎  ·  ·  ·  · E ⏎ S  ·   ⏎    ·    ⏎ ·  E ⏎ S assistant ⏎ Hello E ⏎

FIDELITY: the reference trains on the control tokens and lone newlines of every role
(llava/train/train.py, preprocess_qwen); other templates have other rules, see templates.py.
`strict` labels only the assistant's words and the token that ends them, in every template. A
message that is not `learned` has no label at all, its markup and newlines included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from onevision.config import Template
from onevision.conversation import Conversation, Image, Message, Part, Text, Video
from onevision.errors import InputError
from onevision.inputs.frame_times import add_words
from onevision.inputs.templates import TEMPLATES, ChatTemplate, RoleFormat
from onevision.inputs.tokenizer import Tokenizer

IGNORE = -100

LabelRule = Literal["reference", "strict"]


@dataclass(frozen=True)
class MediaSlot:
    """The position of one image, video or frame of a video among the ids."""

    media: Image | Video
    frame: int | None = None  # which one of a video; None for all of it


@dataclass(frozen=True)
class TokenRun:
    """Consecutive ids with their labels (IGNORE if unlabelled)."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


Piece = MediaSlot | TokenRun


@dataclass(frozen=True)
class Span:
    """A control token or a piece of text, and whether it is labelled, or never may be."""

    text: str
    labelled: bool = False
    is_control: bool = False
    ignored: bool = False


def render(
    conversation: Conversation,
    tokenizer: Tokenizer,
    *,
    template: Template,
    label_rule: LabelRule = "reference",
    image_first: bool = False,
    after_media: Sequence[str | None] = (),
    seconds: Sequence[Sequence[float]] = (),
) -> list[Piece]:
    """Returns the conversation as ids and media slots; if an answer is due, its head comes last.

    `seconds` are the times of the frames of every video, for templates that tell them.
    `image_first` moves the only image of a turn to its front. FIDELITY: the reference does so in
    training only. `after_media` are words after each medium, as the user's own; with the "plain"
    template, which has none of the user's words, they are left out. Raises InputError if that
    template cannot express the conversation.
    """
    if image_first:
        conversation = replace(
            conversation, messages=[_media_to_front(m) for m in conversation.messages]
        )
    conversation = add_words(conversation, after_media)
    if template == "plain":
        return _render_plain(conversation, tokenizer)
    chat, always = TEMPLATES[template], frozenset[int]()
    if label_rule == "reference" and chat.labelled_text is not None:
        always = tokenizer.single_token_ids(chat.labelled_text)
    encoder = _Encoder(tokenizer, always, pieces=_leading_pieces(tokenizer))
    times = iter(seconds)
    for span in _spans(conversation, chat, strict=label_rule == "strict"):
        if chat.frame_tag and isinstance(span, MediaSlot) and isinstance(span.media, Video):
            for part in _tag_frames(span.media, chat, next(times)):
                encoder.add(part)
        else:
            encoder.add(span)
    return encoder.finish()


def _tag_frames(
    video: Video, chat: ChatTemplate, seconds: Sequence[float]
) -> Iterator[Span | MediaSlot]:
    """Yields every frame of a video after its time, in the markup of an image."""
    for number, time in enumerate(seconds):
        yield Span(chat.frame_tag.format(seconds=round(time, 6)))  # 0.35, not 0.35000000000000003
        yield from _split_markup(chat.media.head, chat)
        yield MediaSlot(video, number)
        yield from _split_markup(chat.media.tail, chat)


def render_text(conversation: Conversation, *, template: Template) -> str:
    """Returns the prompt as text with media as <image>, for display only: never encode it."""
    spans = _spans(conversation, TEMPLATES[template], strict=False)
    return "".join("<image>" if isinstance(span, MediaSlot) else span.text for span in spans)


def _spans(
    conversation: Conversation, chat: ChatTemplate, *, strict: bool
) -> Iterator[Span | MediaSlot]:
    messages, system = list(conversation.messages), tuple[Span | MediaSlot, ...]()
    if messages[0].role == "system":
        system = tuple(_turn(messages.pop(0), chat, strict=strict))
    elif chat.default_system:
        system = tuple(_turn(Message("system", chat.default_system), chat, strict=strict))
    if not chat.system_inside:
        yield from system
    for number, message in enumerate(messages):
        if number and message.role == "user":
            yield from _split_markup(chat.between, chat)
        inside = system if chat.system_inside and number == 0 else ()
        yield from _turn(message, chat, inside, strict=strict)
    if conversation.awaits_answer:
        yield from _split_markup(chat.assistant.head, chat)


def _turn(
    message: Message, chat: ChatTemplate, inside: Sequence[Span | MediaSlot] = (), *, strict: bool
) -> Iterator[Span | MediaSlot]:
    """Yields the spans of one turn; those `inside` it go between its head and its words."""
    for span in _label_turn(message, chat, inside, strict=strict):
        if message.learned or isinstance(span, MediaSlot):
            yield span
        else:
            yield replace(span, labelled=False, ignored=True)


def _label_turn(
    message: Message, chat: ChatTemplate, inside: Sequence[Span | MediaSlot], *, strict: bool
) -> Iterator[Span | MediaSlot]:
    """Yields the spans of a turn that is learned."""
    turns: dict[str, RoleFormat] = {
        "system": chat.system,
        "user": chat.user,
        "assistant": chat.assistant,
    }
    turn, answer = turns[message.role], message.role == "assistant"
    labelled = () if strict else chat.labelled_marks
    whole = answer and chat.whole_answers and not strict
    yield from _split_markup(turn.head, chat, labelled=labelled, whole=whole)
    yield from inside
    yield Span(turn.lead, labelled=answer and not strict)
    words = _strip_whitespace(message) if chat.strips else message
    for part in _insert_separators(words) if chat.separates_media else words.parts:
        if isinstance(part, Text):
            yield Span(part.text, labelled=answer)
        elif chat.frame_tag and isinstance(part, Video):
            yield MediaSlot(part)  # frame by frame, once their times are known
        else:
            yield from _split_markup(chat.media.head, chat)
            yield MediaSlot(part)
            yield from _split_markup(chat.media.tail, chat)
    ended = False
    for span in _split_markup(turn.tail, chat, labelled=labelled, whole=answer):
        yield replace(span, labelled=span.labelled and not (strict and ended))
        ended = ended or span.text in (*chat.controls, *chat.labelled_marks)


def _split_markup(
    text: str, chat: ChatTemplate, *, labelled: Sequence[str] = (), whole: bool = False
) -> Iterator[Span]:
    """Yields the spans of a template's markup; label the `labelled` parts of it, or the `whole`."""
    for part in chat.split(text):
        yield Span(part, labelled=whole or part in labelled, is_control=part in chat.controls)


def _render_plain(conversation: Conversation, tokenizer: Tokenizer) -> list[Piece]:
    """Renders media and then their caption, without roles and without the user's words.

    FIDELITY: the rule of the alignment stage (preprocess_plain). Caption and newline are labelled.
    """
    user, *rest = conversation.messages
    media = [part for part in user.parts if not isinstance(part, Text)]
    if user.role != "user" or len(rest) > 1 or not media:
        raise InputError(
            "the plain template takes one user message with an image or a video, "
            "and at most its caption; use a chat template for conversations"
        )
    pieces: list[Piece] = [*_leading_pieces(tokenizer), *map(MediaSlot, media)]
    for message in rest:
        caption = "".join(part.text for part in message.parts if isinstance(part, Text))
        ids = tuple(tokenizer.encode(caption + "\n").ids)
        pieces.append(TokenRun(ids=ids, labels=ids))
    return pieces


@dataclass
class _Encoder:
    """Turns spans into pieces; adjacent text is joined before it is encoded."""

    tokenizer: Tokenizer
    always: frozenset[int]  # ids that are labelled in every span
    pieces: list[Piece] = field(default_factory=list)
    pending: str = ""
    labelled: bytearray = field(default_factory=bytearray)  # one flag per pending character
    ignored: bytearray = field(default_factory=bytearray)  # and another
    continues: bool = False  # whether the pending text follows a control token

    def add(self, span: Span | MediaSlot) -> None:
        """Adds the next span."""
        if isinstance(span, Span) and not span.is_control:
            self.pending += span.text
            self.labelled += bytes([span.labelled]) * len(span.text)
            self.ignored += bytes([span.ignored]) * len(span.text)
            return
        self._flush()
        self.continues = isinstance(span, Span)
        if isinstance(span, MediaSlot):
            self.pieces.append(span)
            return
        token_id = self.tokenizer.id_of(span.text)
        self.pieces.append(TokenRun((token_id,), (token_id if span.labelled else IGNORE,)))

    def finish(self) -> list[Piece]:
        """Returns all pieces."""
        self._flush()
        return self.pieces

    def _flush(self) -> None:
        if not self.pending:
            return
        encoding = self.tokenizer.encode(self.pending, continues=self.continues)
        # A token belongs to the span of its last character.
        labels = tuple(
            token_id if self._is_labelled(token_id, end) else IGNORE
            for token_id, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)
        )
        self.pieces.append(TokenRun(tuple(encoding.ids), labels))
        self.pending, self.labelled, self.ignored = "", bytearray(), bytearray()

    def _is_labelled(self, token_id: int, end: int) -> bool:
        if end and self.ignored[end - 1]:
            return False
        return bool(end and self.labelled[end - 1]) or token_id in self.always


def _leading_pieces(tokenizer: Tokenizer) -> list[Piece]:
    """Returns the tokenizer's BOS token: `<s>` for LLaMA, nothing for Qwen."""
    ids = tokenizer.bos_ids
    return [TokenRun(ids, (IGNORE,) * len(ids))] if ids else []


def _insert_separators(message: Message) -> Iterator[Part]:
    """Yields the parts, and a separator after media unless the text after it starts with space."""
    parts = [p for p in message.parts if not (isinstance(p, Text) and not p.text)]
    for part, following in zip_longest(parts, parts[1:]):
        yield part
        if isinstance(part, Text) or following is None:
            continue
        if not (isinstance(following, Text) and following.text[0].isspace()):
            yield Text(message.media_separator)


def _strip_whitespace(message: Message) -> Message:
    """Strips white space from the start and the end of the message."""
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
