"""What a request asks, whatever wire format it came in."""

from dataclasses import dataclass
from typing import Literal

from onevision.conversation import Detail, Role
from onevision.generate.sampler import SamplingOptions

Kind = Literal["image", "video", "frames"]


@dataclass(frozen=True, kw_only=True)
class Medium:
    """An image or a video that is still an address; `param` is where the request names it."""

    kind: Kind
    addresses: tuple[str, ...]  # one, or one a frame
    param: str
    detail: Detail = "auto"
    num_frames: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A message: words and media in order."""

    role: Role
    parts: tuple[str | Medium, ...]
    param: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and how the answer is to be drawn."""

    model: str
    turns: tuple[Turn, ...]
    options: SamplingOptions
    max_tokens: int | None = None
    ignore_eos: bool = False
    salt: str = ""  # keeps caches of one key apart
    unknown: tuple[str, ...] = ()  # fields that mean nothing here

    @property
    def media(self) -> tuple[Medium, ...]:
        """All media, in order."""
        return tuple(p for turn in self.turns for p in turn.parts if isinstance(p, Medium))
