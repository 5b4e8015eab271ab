"""When the frames of a video are shown, and LLaVA-Video's words that tell a model so."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from onevision.anyres import VideoRule
from onevision.conversation import Conversation, Message, Part, Text
from onevision.inputs.upright import ImageSize
from onevision.native import Native


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """The frames of a video in display order.

    A mark identifies a frame: its time stamp, or its number if the container (AVI) has none.
    """

    marks: Sequence[int]
    key_marks: Sequence[int]
    seconds_per_mark: float
    has_times: bool

    def seconds(self, index: int) -> float:
        """Returns when frame `index` is shown, counted from the first."""
        return (self.marks[index] - self.marks[0]) * self.seconds_per_mark

    @property
    def duration(self) -> float:
        """How long the video lasts, in seconds: its last frame as long as the mean one.

        0 of a single frame, whose length no other tells.
        """
        count = len(self.marks)
        return self.seconds(count - 1) * count / (count - 1) if count > 1 else 0.0


@dataclass(frozen=True)
class NumFrames:
    """How many frames of a video the model sees, and when each is shown, if known."""

    count: int
    seconds: tuple[float, ...] | None = None  # counted from the first frame of the video
    size: ImageSize | None = None  # of the frames, where their layout depends on it
    numbers: tuple[int, ...] | None = None  # of the frames in the video, likewise
    duration: float | None = None  # of the whole video, in seconds

    @property
    def times(self) -> tuple[float, ...]:
        """When each frame is shown; of frames without times, a second after the one before."""
        return tuple(map(float, range(self.count))) if self.seconds is None else self.seconds

    def words(self, rule: VideoRule | Native) -> str | None:
        """Returns what a model with this video rule reads about these frames; None: nothing."""
        says_times = isinstance(rule, VideoRule) and rule.time_instruction
        return self.time_instruction() if says_times else None

    def time_instruction(self) -> str | None:
        """Returns the words for these frames; None if their times are not known."""
        if self.seconds is None or self.duration is None:
            return None
        return describe_times(self.seconds, duration=self.duration)


def describe_times(seconds: Sequence[float], *, duration: float) -> str:
    """Returns the time instruction of LLaVA-Video (arXiv 2410.02713, section 3.2).

    `seconds` say when each frame is shown, `duration` how long the video lasts. FIDELITY: the words
    are those that the released models learned, without a space after the second full stop.
    """
    times = ",".join(f"{second:.2f}s" for second in seconds)
    return (
        f"The video lasts for {duration:.2f} seconds, and {len(seconds)} frames are uniformly "
        f"sampled from it. These frames are located at {times}.Please answer the following "
        "questions related to this video."
    )


def add_words(conversation: Conversation, words: Sequence[str | None]) -> Conversation:
    """Puts `words` after each medium, on a line of their own; None puts none."""
    if not any(words):
        return conversation
    rest = iter(words)
    return replace(conversation, messages=[_add_words(one, rest) for one in conversation.messages])


def _add_words(message: Message, words: Iterator[str | None]) -> Message:
    """Puts the next of `words` after each medium of a message."""
    parts: list[Part] = []
    for part, following in zip_longest(message.parts, message.parts[1:]):
        parts.append(part)
        if isinstance(part, Text) or not (said := next(words)):
            continue
        ends = following is None or (isinstance(following, Text) and following.text[:1] == "\n")
        parts.append(Text(f"\n{said}" if ends else f"\n{said}\n"))
    return replace(message, content=parts)
