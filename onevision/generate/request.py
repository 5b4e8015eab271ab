"""A question on its way through the engine, and its answers as they grow."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from onevision.batch import ModelInputs
from onevision.errors import OneVisionError
from onevision.generate.kv_cache import Span
from onevision.generate.sampler import Drawer, Sampling, Token
from onevision.generate.vision_cache import Medium
from onevision.inputs.tokenizer import TextStream

# "cancelled" where whoever asked went away; "error" where `Request.error` says why.
EndReason = Literal["stop", "length", "cancelled", "error"]
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is new of one answer: text (complete characters), tokens, and why it ended, if so."""

    answer: int  # which of the request's answers
    text: str
    tokens: tuple[Token, ...]
    finish_reason: EndReason | None = None


class Answer:
    """One answer: its tokens, its place in the cache, and the text that is safe to show."""

    def __init__(self, number: int, drawer: Drawer, stream: TextStream) -> None:
        self.number, self.drawer = number, drawer
        self.ids: list[int] = []
        self.tokens: list[Token] = []
        self.span: Span | None = None
        self.finish_reason: EndReason | None = None
        self.stop_words: str | None = None  # the words that ended it
        self.text = ""  # shown so far
        self._stream, self._held = stream, ""  # text that may be the beginning of stop words

    @property
    def whole_text(self) -> str:
        """All its words. They are decoded together, where nothing was cut off at stop words.

        That differs from `text` only where a model gives bytes that are no characters.
        """
        if self.stop_words is not None:
            return self.text
        return self._stream.decode(self.ids)

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.finish_reason is None

    def push(self, token: Token) -> Piece | None:
        """Take the next token; return what may be shown, or None while nothing may."""
        sampling = self.drawer.sampling
        self.ids.append(token.id)
        self.tokens.append(token)
        if token.id in sampling.end_ids:
            self.finish_reason = "stop"
        else:
            self._held += self._stream.push(token.id)
            self._look_for_stops(sampling.stops)
        if self.finish_reason is None and len(self.ids) == sampling.max_new_tokens:
            self.finish_reason = "length"
        if self.finish_reason is not None and self.stop_words is None:
            self._held += self._stream.flush()
        return self._piece((token,))

    def end(self, reason: EndReason) -> Piece | None:
        """End the answer from outside."""
        self.finish_reason = reason
        return self._piece(())

    def _look_for_stops(self, stops: Sequence[str]) -> None:
        found = [(place, words) for words in stops if (place := self._held.find(words)) >= 0]
        if found:
            place, self.stop_words = min(found)
            self._held, self.finish_reason = self._held[:place], "stop"

    def _piece(self, tokens: tuple[Token, ...]) -> Piece | None:
        keep = 0 if self.finish_reason else self._may_begin_stop(self.drawer.sampling.stops)
        text, self._held = (
            self._held[: len(self._held) - keep],
            self._held[len(self._held) - keep :],
        )
        self.text += text
        if text or tokens or self.finish_reason:
            return Piece(
                answer=self.number, text=text, tokens=tokens, finish_reason=self.finish_reason
            )
        return None

    def _may_begin_stop(self, stops: Sequence[str]) -> int:
        """Return how many of the last characters may be the beginning of stop words."""
        most = min(len(self._held), max(map(len, stops), default=1) - 1)
        for length in range(most, 0, -1):
            if any(words.startswith(self._held[-length:]) for words in stops):
                return length
        return 0


@dataclass(eq=False, kw_only=True)
class Request:
    """A prompt, how its answers are drawn, and how far they have come."""

    prompt: ModelInputs  # of one row
    sampling: Sampling
    answers: list[Answer]
    tenant: bytes
    # Called with each piece, by the thread that runs the engine; it must not take long.
    sink: Callable[[Piece], object] | None
    deadline: float | None  # of time.monotonic()
    kv_bytes: int  # what it may come to need
    content: np.ndarray  # [S, 5] int64: what stands where, see prefix.py
    keys: list[bytes]  # of its blocks
    media: list[Medium]
    number: int = field(default_factory=lambda: next(_numbers))
    arrived: float = field(default_factory=time.monotonic)

    span: Span | None = None  # of the prompt, once it is being read; then of the first answer
    is_read: bool = False
    admitted: float | None = None  # when its prompt began to be read, and
    answering: float | None = None  # when its answers began: of time.monotonic()
    encode_seconds: float = 0.0  # that its images and videos took in the vision encoder
    cached_tokens: int = 0  # of the prompt, that were not read again
    cancelled: bool = False
    error: OneVisionError | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.prompt.input_ids.shape[1]

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return not any(answer.is_open for answer in self.answers)

    def give(self, piece: Piece | None) -> None:
        """Hand a piece to whoever asked."""
        if piece is not None and self.sink is not None:
            self.sink(piece)


class FairQueue:
    """Requests that wait: tenants take turns, each in the order of arrival."""

    def __init__(self) -> None:
        self._tenants: dict[bytes, deque[Request]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def put(self, request: Request) -> None:
        """Let a request wait."""
        self._tenants.setdefault(request.tenant, deque()).append(request)

    def first(self) -> Request | None:
        """Return whose turn it is, without taking it."""
        return next(iter(self._tenants.values()))[0] if self._tenants else None

    def take(self) -> Request:
        """Take whose turn it is; its tenant goes to the end of the row."""
        tenant, own = next(iter(self._tenants.items()))
        request = own.popleft()
        del self._tenants[tenant]
        if own:
            self._tenants[tenant] = own
        return request

    def remove(self, wanted: Callable[[Request], bool]) -> list[Request]:
        """Take out all that are `wanted`."""
        taken: list[Request] = []
        for tenant, own in list(self._tenants.items()):
            taken += [request for request in own if wanted(request)]
            left = deque(request for request in own if not wanted(request))
            if left:
                self._tenants[tenant] = left
            else:
                del self._tenants[tenant]
        return taken
