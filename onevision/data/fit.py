"""Conversation -> its exact number of tokens, before any pixel is decoded, and a version that fits.

Media are never cut. Whole exchanges are dropped from the end; then videos show fewer frames, or
images fewer crops; a sample that is still too long is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from onevision.config import Template
from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.errors import ContextLengthError
from onevision.inputs.processor import Outline, Processor

Reduction = Literal["turns", "frames", "crops"]
MIN_FRAMES = 4


@dataclass(frozen=True, kw_only=True)
class FittedSample:
    """A conversation that fits, its outline, and what was reduced to make it fit."""

    conversation: Conversation
    outline: Outline
    reductions: tuple[Reduction, ...]


def fit_sample(
    conversation: Conversation,
    processor: Processor,
    *,
    max_tokens: int,
    template: Template | None = None,
    image_first: bool = False,
) -> FittedSample:
    """Reduces `conversation` until it fits into `max_tokens`, as little as possible.

    Counts come from media headers alone. Raises ContextLengthError if it cannot fit, and MediaError
    for media without a readable header.
    """
    shortest = 0
    for candidate, reductions in _candidates(conversation):
        outline = processor.outline(candidate, template=template, image_first=image_first)
        if outline.num_tokens <= max_tokens:
            return FittedSample(conversation=candidate, outline=outline, reductions=reductions)
        shortest = outline.num_tokens
    raise ContextLengthError(
        f"the sample needs {shortest:,} tokens after every reduction; at most {max_tokens:,} fit; "
        "shorten its text or show fewer images"
    )


def _candidates(
    conversation: Conversation,
) -> Iterator[tuple[Conversation, tuple[Reduction, ...]]]:
    """Yields the conversation, then shorter and shorter versions of it."""
    yield conversation, ()
    reductions: tuple[Reduction, ...] = ()
    while (shorter := _without_last_exchange(conversation)) is not None:
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


def _without_last_exchange(conversation: Conversation) -> Conversation | None:
    """Drops the last question and answer; None if that would leave no answer."""
    shorter = conversation.messages[:-2]
    if not any(message.role == "assistant" for message in shorter):
        return None
    return Conversation(shorter)


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
