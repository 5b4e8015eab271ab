"""Conversation -> its exact number of tokens, before any pixel is decoded, and a version that fits.

Media are never cut. Whole exchanges are dropped from the end; then videos show fewer frames, or
images fewer crops; a sample that is still too long is refused.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, takewhile
from typing import Literal

from onevision.config import Template
from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.styles import join_turns, split_turns
from onevision.errors import ContextLengthError
from onevision.inputs.chat import LabelRule, MediaSlot, Piece, TokenRun
from onevision.inputs.processor import Outline, Processor

Reduction = Literal["turns", "frames", "crops"]
MIN_FRAMES = 4


@dataclass(frozen=True, kw_only=True)
class FittedSample:
    """A conversation that fits, its outline, and what was reduced to make it fit."""

    conversation: Conversation
    outline: Outline
    reductions: tuple[Reduction, ...]
    # Tokens of the whole sample that are not in the outline; of an endless one, at least so many.
    num_cut: int = 0
    # Further questions about the same media, each with its answer, where turns stand apart.
    branches: tuple[tuple[Piece, ...], ...] = ()

    @property
    def whole(self) -> Outline:
        """The outline with the words of all branches, whose prefix is there once."""
        words = [piece for branch in self.branches for piece in _after_media(branch)]
        return replace(self.outline, pieces=(*self.outline.pieces, *words))


def fit_sample(
    conversation: Conversation,
    processor: Processor,
    *,
    max_tokens: int,
    template: Template | None = None,
    image_first: bool = False,
    label_rule: LabelRule = "reference",
) -> FittedSample:
    """Reduces `conversation` until it fits into `max_tokens`, as little as possible.

    Counts come from media headers alone. Raises ContextLengthError if it cannot fit, and MediaError
    for media without a readable header.
    """

    def lay_out(candidate: Conversation) -> Outline:
        return processor.outline(
            candidate, template=template, image_first=image_first, label_rule=label_rule
        )

    shortest = whole = 0
    for candidate, reductions in _candidates(conversation, lay_out, max_tokens=max_tokens):
        outline = lay_out(candidate)
        shortest, whole = outline.num_tokens, whole or outline.num_tokens
        if outline.num_tokens <= max_tokens:
            return FittedSample(
                conversation=candidate,
                outline=outline,
                reductions=reductions,
                num_cut=max(
                    whole - outline.num_tokens,
                    len(conversation.messages) - len(candidate.messages),
                ),
            )
    raise ContextLengthError(
        f"the sample needs {shortest:,} tokens after every reduction; at most {max_tokens:,} fit; "
        "shorten its text or show fewer images"
    )


def fit_apart(
    conversation: Conversation,
    processor: Processor,
    *,
    max_tokens: int,
    template: Template | None = None,
    label_rule: LabelRule = "reference",
) -> FittedSample:
    """Fits questions that share their media and do not see each other; `split_turns` has the rules.

    The last ones are dropped first; media are reduced as in `fit_sample` if even one question does
    not fit. Raises as it does, and DataError.
    """
    talks = split_turns(conversation)
    fitted = fit_sample(
        talks[0], processor, max_tokens=max_tokens, template=template, label_rule=label_rule
    )
    branches: list[tuple[Piece, ...]] = []
    num_tokens, num_cut = fitted.outline.num_tokens, fitted.num_cut
    for talk in talks[1:]:
        pieces = processor.pieces(talk, fitted.outline, template=template, label_rule=label_rule)
        length = sum(len(piece.ids) for piece in _after_media(pieces))
        if num_cut or num_tokens + length > max_tokens:
            num_cut += length
        else:
            num_tokens += length
            branches.append(pieces)
    is_short = len(branches) < len(talks) - 1
    return replace(
        fitted,
        conversation=join_turns([fitted.conversation, *talks[1 : 1 + len(branches)]]),
        branches=tuple(branches),
        reductions=_with(fitted.reductions, "turns") if is_short else fitted.reductions,
        num_cut=num_cut,
    )


def _after_media(pieces: Sequence[Piece]) -> list[TokenRun]:
    """Returns the words after the last medium; of text alone, all."""
    words = takewhile(lambda piece: not isinstance(piece, MediaSlot), reversed(pieces))
    return [piece for piece in words if isinstance(piece, TokenRun)][::-1]


def _candidates(
    conversation: Conversation, lay_out: Callable[[Conversation], Outline], *, max_tokens: int
) -> Iterator[tuple[Conversation, tuple[Reduction, ...]]]:
    """Yields the conversation, then shorter and shorter versions of it."""
    reductions: tuple[Reduction, ...] = ()
    if len(conversation.messages) <= max_tokens:  # each takes at least a token
        yield conversation, reductions
    for shorter in _with_fewer_exchanges(conversation, lay_out, max_tokens=max_tokens):
        conversation, reductions = shorter, ("turns",)
        yield conversation, reductions
    frames = max((m.num_frames for m in conversation.media if isinstance(m, Video)), default=0)
    while frames > MIN_FRAMES:
        frames //= 2
        reductions = _with(reductions, "frames")
        conversation = _with_media(conversation, max_frames=frames)
        yield conversation, reductions
    if any(isinstance(m, Image) and m.detail != "low" for m in conversation.media):
        yield _with_media(conversation, low_detail=True), _with(reductions, "crops")


def _with(reductions: tuple[Reduction, ...], new: Reduction) -> tuple[Reduction, ...]:
    return reductions if new in reductions else (*reductions, new)


def _with_fewer_exchanges(
    conversation: Conversation, lay_out: Callable[[Conversation], Outline], *, max_tokens: int
) -> Iterator[Conversation]:
    """Yields versions that lack exchanges at the end: the longest that fits, or the shortest.

    More exchanges take more tokens, unless the rule of images changes with their number (a single
    one has more crops); so the longest that fits is found by bisection among versions with none,
    with one and with more images, and a conversation of any length takes few steps.
    """
    messages = conversation.messages
    ends = [
        end
        for end in range(len(messages) - 2, 0, -2)
        if end <= max_tokens and messages[end - 1].role == "assistant"
    ]
    first = next((n for n, one in enumerate(messages, start=1) if _is_answer(one)), 0)
    ends = [end for end in ends if end >= first > 0]
    counts = list(accumulate(sum(isinstance(p, Image) for p in one.parts) for one in messages))
    shortest: Conversation | None = None
    for _, group in groupby(ends, key=lambda end: min(counts[end - 1], 2)):
        rising = [*group][::-1]

        def count(end: int) -> int:
            return lay_out(Conversation(messages[:end])).num_tokens

        fitting = bisect_right(rising, max_tokens, key=count)
        shortest = Conversation(messages[: rising[max(0, fitting - 1)]])
        if fitting:
            yield shortest
            return
    if shortest is not None:
        yield shortest


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and message.learned


def _with_media(
    conversation: Conversation, *, max_frames: int | None = None, low_detail: bool = False
) -> Conversation:
    def reduced(part: Text | Image | Video) -> Text | Image | Video:
        if isinstance(part, Video) and max_frames is not None:
            return replace(part, num_frames=min(part.num_frames, max_frames))
        if isinstance(part, Image) and low_detail:
            return replace(part, detail="low")
        return part

    def message(one: Message) -> Message:
        return replace(one, content=tuple(map(reduced, one.parts)))

    return Conversation([message(one) for one in conversation.messages])
