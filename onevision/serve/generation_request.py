"""GenerationRequest: what a client asks for, whatever wire format it came in."""

from dataclasses import dataclass
from typing import Literal

from onevision.conversation import Detail, Role, Sampler
from onevision.generate.sampler import SamplingOptions

MediaKind = Literal["image", "video", "frames"]


@dataclass(frozen=True, kw_only=True)
class MediaReference:
    """An image or a video, by URL. `param` is the request's field that names it."""

    kind: MediaKind
    urls: tuple[str, ...]  # one, or one per frame
    param: str
    detail: Detail = "auto"
    num_frames: int | None = None
    fps: float | None = None
    start: float | None = None  # seconds
    end: float | None = None
    sampler: Sampler = "even"
    keep: float | None = None  # as of the request if None


@dataclass(frozen=True, kw_only=True)
class RequestMessage:
    """A message: text and media in order."""

    role: Role
    parts: tuple[str | MediaReference, ...]
    param: str


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """The messages to answer, and how to sample the answers."""

    model: str
    messages: tuple[RequestMessage, ...]
    options: SamplingOptions
    max_tokens: int | None = None
    ignore_eos: bool = False
    keep: float | None = None  # share of visual tokens, for media that set none of their own
    cache_salt: str = ""  # separates caches within one API key
    ignored_fields: tuple[str, ...] = ()

    @property
    def media(self) -> tuple[MediaReference, ...]:
        """All media, in order."""
        return tuple(
            part
            for message in self.messages
            for part in message.parts
            if isinstance(part, MediaReference)
        )
