"""Conversations and replies: plain values that import neither torch nor Pillow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard, get_args

from onevision.errors import InputError, MediaError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    ImageSource = str | Path | bytes | PillowImage
    VideoSource = str | Path | bytes | Sequence[PillowImage]

Role = Literal["system", "user", "assistant"]
Detail = Literal["auto", "low", "high"]
Sampler = Literal["even", "processor", "vllm", "lmms_eval"]
FinishReason = Literal["stop", "length"]
# The least share of visual tokens that may be kept: below a twentieth, little of a picture is left.
LEAST_KEEP = 0.05


@dataclass(frozen=True)
class Text:
    """Text. It never becomes control tokens, whatever it contains."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InputError(f"Text holds {type(self.text).__name__}; expected a string")


@dataclass(frozen=True)
class Image:
    """A picture: a path, encoded bytes, or a Pillow image.

    `detail` sets the resolution. "auto" follows the training rule: AnyRes for the only image of a
    conversation, one padded crop per image if there are several. "high" is always AnyRes, "low" is
    one squashed crop without a newline.

    `keep` is the share of its visual tokens that the model reads, 0.05 to 1; None is what the call
    says, and all if it says nothing.
    """

    source: "ImageSource"
    detail: Detail = "auto"
    keep: float | None = None

    def __post_init__(self) -> None:
        if self.detail not in ("auto", "low", "high"):
            raise InputError(f"detail is {self.detail!r}; expected 'auto', 'low' or 'high'")
        check_keep(self.keep)


@dataclass(frozen=True)
class Video:
    """A video: a path, encoded bytes, or a list of Pillow images, all of which are used.

    From a file, `num_frames` frames are sampled evenly between `start` and `end` (seconds, both
    included), or all frames if there are fewer. With `fps`, that many frames are sampled per
    second, unless this exceeds `num_frames`. A path may be a folder, whose pictures are the frames,
    in the order of their names; they have no times. `keep` is as for an `Image`, for the tokens
    of all frames together.

    `sampler` "processor", "vllm" or "lmms_eval" chooses the frames of a file as those do for
    OneVision-2, at most `num_frames`; `inputs/samplers.py` says how.
    """

    source: "VideoSource"
    num_frames: int = 32
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    keep: float | None = None
    sampler: Sampler = "even"

    def __post_init__(self) -> None:
        _check_frames(self.source)
        if parse_sampler(self.sampler) != "even" and self.fps is not None:
            raise InputError(f"fps is {self.fps!r:.60}, but sampler {self.sampler} has its own")
        check_keep(self.keep)
        if not isinstance(self.num_frames, Integral) or self.num_frames < 1:
            raise InputError(f"num_frames is {self.num_frames!r:.60}; expected at least 1")
        if self.fps is not None and not (_is_finite(self.fps) and self.fps > 0):
            raise InputError(f"fps is {self.fps!r:.60}; expected a positive number")
        for name, seconds in (("start", self.start), ("end", self.end)):
            if seconds is not None and not (_is_finite(seconds) and seconds >= 0):
                raise InputError(f"{name} is {seconds!r:.60}; expected seconds, 0 or more")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise InputError(
                f"the video part ends at {self.end} s, before its start at {self.start} s"
            )


Part = Text | Image | Video


@dataclass(frozen=True)
class Message:
    """One turn: a role, and text, images and videos in order.

    `content` may be a plain string. `media_separator` is inserted between an image or a video and
    the text or media after it, unless that text starts with white space; training records, which
    contain every character, set it to "". `learned` is for training: an answer that is not learned
    has no labels.
    """

    role: Role
    content: str | Sequence[Part]
    media_separator: str = field(default="\n", kw_only=True)
    learned: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise InputError(f"role is {self.role!r}; expected 'system', 'user' or 'assistant'")
        if not isinstance(self.media_separator, str):
            raise InputError(f"media_separator is {self.media_separator!r:.60}; expected a string")
        if not self.learned and self.role != "assistant":
            raise InputError(f"learned is {self.learned!r} for the {self.role}; only answers are")
        content = Text(self.content) if isinstance(self.content, str) else self.content
        if isinstance(content, Part):
            parts: tuple[Part, ...] = (content,)
        elif isinstance(content, Sequence):
            parts = tuple(content)
        else:
            raise InputError(
                f"the content of a {self.role} message is {type(content).__name__}; expected a "
                "string, or a list of Text, Image and Video"
            )
        for part in parts:
            if not isinstance(part, Part):
                raise InputError(
                    f"a {self.role} message holds {type(part).__name__}; "
                    "expected Text, Image or Video"
                )
            if self.role != "user" and not isinstance(part, Text):
                raise InputError(
                    f"a {self.role} message holds media; only user messages may hold media"
                )
        object.__setattr__(self, "content", parts)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts."""
        assert isinstance(self.content, tuple)
        return self.content


@dataclass(frozen=True)
class Conversation:
    """Messages in order: an optional system message, then user and assistant in turn."""

    messages: Sequence[Message]

    def __post_init__(self) -> None:
        if isinstance(self.messages, str) or not isinstance(self.messages, Sequence):
            raise InputError(
                f"the conversation is {type(self.messages).__name__}; expected a list of messages: "
                'Conversation([Message("user", ...)])'
            )
        object.__setattr__(self, "messages", tuple(self.messages))
        for number, message in enumerate(self.messages, start=1):
            if not isinstance(message, Message):
                raise InputError(
                    f"entry {number} of the conversation is {type(message).__name__}; expected a "
                    'Message: Message("user", ...)'
                )
        if not self.messages:
            raise InputError("the conversation is empty; expected at least one user message")
        turns = self.messages[1:] if self.messages[0].role == "system" else self.messages
        expected: Role = "user"
        for number, message in enumerate(turns, start=1):
            if message.role != expected:
                raise InputError(
                    f"turn {number} is by {message.role!r}; expected {expected!r}: after an "
                    "optional system message, user and assistant take turns"
                )
            expected = "assistant" if expected == "user" else "user"
        if not turns:
            raise InputError("the conversation has only a system message; add a user message")

    @property
    def media(self) -> tuple[Image | Video, ...]:
        """All images and videos, in order."""
        return tuple(p for m in self.messages for p in m.parts if not isinstance(p, Text))

    def with_keep(self, keep: float | None) -> "Conversation":
        """Returns the conversation with this `keep` for all media that set none of their own.

        Raises InputError if it is neither None nor a number from 0.05 to 1.
        """
        check_keep(keep)
        if keep is None or all(medium.keep is not None for medium in self.media):
            return self
        return replace(self, messages=[_with_keep(message, keep) for message in self.messages])

    @property
    def awaits_answer(self) -> bool:
        """Whether the last message is the user's."""
        return self.messages[-1].role == "user"


def parse_sampler(name: str) -> Sampler:
    """Returns a way to choose frames, by its name. Raises InputError for an unknown one."""
    for known in get_args(Sampler):
        if name == known:
            return known
    raise InputError(f"sampler is {name!r:.60}; expected one of {', '.join(get_args(Sampler))}")


def check_keep(keep: object) -> None:
    """Raises InputError if `keep` is neither None nor a number from `LEAST_KEEP` to 1."""
    if keep is None:
        return
    is_number = _is_finite(keep) and not isinstance(keep, bool)
    if not (is_number and LEAST_KEEP <= float(keep) <= 1):
        raise InputError(f"keep is {keep!r:.60}; expected a number from {LEAST_KEEP} to 1")


def _with_keep(message: Message, keep: float) -> Message:
    parts = [
        part if isinstance(part, Text) or part.keep is not None else replace(part, keep=keep)
        for part in message.parts
    ]
    return replace(message, content=parts)


def _check_frames(source: object) -> None:
    """Refuses what is neither a file nor a list, such as an array. Raises MediaError."""
    kind = type(source).__name__
    if isinstance(source, bytearray | memoryview):
        raise MediaError(
            f"the video source is {kind}; expected bytes: pass bytes(...)", fault="source"
        )
    if not isinstance(source, (str, Path, bytes, Sequence)):
        raise MediaError(
            f"the video source is {kind}; expected a path, bytes, or a list of Pillow images: make "
            "an array's frames images with PIL.Image.fromarray, and put a generator's in a list",
            fault="source",
        )


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Token counts of one answer; the prompt consists of text, image and video tokens.

    `dropped_tokens` are the visual tokens that `keep` left out, in no other count. Of
    `drafted_tokens`, which were guessed before the model was asked, `accepted_tokens` are part of
    the answer, or were cut off behind its end.
    """

    text_tokens: int
    image_tokens: int
    video_tokens: int
    completion_tokens: int
    dropped_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.text_tokens + self.image_tokens + self.video_tokens

    @property
    def total_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer: its text, why it ended ("stop" by itself, "length" at the limit), its tokens."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    # What the model's linear layers computed in: "bfloat16", "int8 (281 by oneDNN)".
    arithmetic: str
