"""A request on its way through the engine, and its answers as they grow."""

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from onevision.batch import ModelInputs
from onevision.errors import OneVisionError
from onevision.generate.kv_cache import KVCache
from onevision.generate.sampler import Sampler, Sampling, Token
from onevision.generate.vision_cache import MediaEncoding
from onevision.inputs.tokenizer import TextStream

# "cancelled" if the caller cancelled the request; for "error", `Request.error` has the reason.
EndReason = Literal["stop", "length", "cancelled", "error"]
_numbers = itertools.count()
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnswerDelta:
    """What is new in one answer: text (whole characters), tokens, and why it ended if it did."""

    answer: int  # which of the request's answers
    text: str
    tokens: tuple[Token, ...]
    finish_reason: EndReason | None = None


class Answer:
    """One answer: its tokens, its KV cache, and the text that may be shown so far."""

    def __init__(self, number: int, sampler: Sampler, stream: TextStream) -> None:
        self.number, self.sampler = number, sampler
        self.ids: list[int] = []
        self.tokens: list[Token] = []
        self.kv_cache: KVCache | None = None
        # Of the draft model, and which of `ids`, and guesses after them, it holds.
        self.draft_cache: KVCache | None = None
        self.draft_ids: list[int] = []
        self.drafted_tokens = self.accepted_tokens = 0
        self.finish_reason: EndReason | None = None
        self.stop_string: str | None = None  # that ended it
        self.text = ""  # shown so far
        self._stream, self._held = stream, ""  # text that may be the start of a stop string

    @property
    def whole_text(self) -> str:
        """The text of all tokens, decoded together unless a stop string cut it off.

        Differs from `text` only if the model generates bytes that are not valid characters.
        """
        if self.stop_string is not None:
            return self.text
        return self._stream.decode(self.ids)

    @property
    def is_open(self) -> bool:
        """Whether more tokens may follow."""
        return self.finish_reason is None

    def push(self, token: Token) -> AnswerDelta | None:
        """Appends a token; returns what may be shown now, or None if nothing may."""
        sampling = self.sampler.sampling
        self.ids.append(token.id)
        self.tokens.append(token)
        if token.id in sampling.end_ids:
            self.finish_reason = "stop"
        else:
            self._held += self._stream.push(token.id)
            self._find_stop_string(sampling.stops)
            if self.finish_reason is None and self.sampler.must_end:
                self.finish_reason = "stop"
        if self.finish_reason is None and len(self.ids) == sampling.max_new_tokens:
            self.finish_reason = "length"
        if self.finish_reason is not None and self.stop_string is None:
            self._held += self._stream.flush()
        return self._delta((token,))

    def end(self, reason: EndReason) -> AnswerDelta | None:
        """Ends the answer before the model does."""
        self.finish_reason = reason
        return self._delta(())

    def _find_stop_string(self, stops: Sequence[str]) -> None:
        found = [(place, stop) for stop in stops if (place := self._held.find(stop)) >= 0]
        if found:
            place, self.stop_string = min(found)
            self._held, self.finish_reason = self._held[:place], "stop"

    def _delta(self, tokens: tuple[Token, ...]) -> AnswerDelta | None:
        kept = 0 if self.finish_reason else self._count_held(self.sampler.sampling.stops)
        shown = len(self._held) - kept
        text, self._held = self._held[:shown], self._held[shown:]
        self.text += text
        if text or tokens or self.finish_reason:
            return AnswerDelta(
                answer=self.number, text=text, tokens=tokens, finish_reason=self.finish_reason
            )
        return None

    def _count_held(self, stops: Sequence[str]) -> int:
        """Returns how many of the last characters may be the start of a stop string."""
        most = min(len(self._held), max(map(len, stops), default=1) - 1)
        for length in range(most, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in stops):
                return length
        return 0


@dataclass(eq=False, kw_only=True)
class Request:
    """A prompt, how to sample its answers, and how far they have come."""

    prompt: ModelInputs  # B = 1
    sampling: Sampling
    answers: list[Answer]
    tenant: str  # whose turn it takes
    salt: bytes  # what separates cached content: of the tenant and its cache salt
    # Called with each delta by the thread that runs the engine, so it must return quickly.
    on_delta: Callable[[AnswerDelta], object] | None
    deadline: float | None  # on the clock of time.monotonic(), as are all times here
    kv_bytes: int  # of KV cache that it may come to need
    content: np.ndarray  # [S, 5] int64, see `prefix_cache.content_rows`
    block_hashes: list[bytes]
    media: list[MediaEncoding]  # emptied once the prompt is prefilled
    number: int = field(default_factory=lambda: next(_numbers))

    # Of the prompt while it is prefilled, then of the first answer.
    kv_cache: KVCache | None = None
    # The same prompt as the draft model reads it, if there is one.
    drafting: "Request | None" = None
    is_prefilled: bool = False
    arrived_at: float = field(default_factory=time.monotonic)
    admitted_at: float | None = None
    decoding_since: float | None = None
    encode_seconds: float = 0.0  # that its images and videos took in the vision encoder
    cached_tokens: int = 0  # of the prompt, taken from the prefix cache
    cancelled: bool = False
    error: OneVisionError | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.prompt.input_ids.shape[1]

    @cached_property
    def num_positions(self) -> int:
        """Rotary positions of the prompt: those of dropped tokens stay empty."""
        return self.num_tokens + sum(layout.num_dropped for layout in self.prompt.layouts)

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return not any(answer.is_open for answer in self.answers)

    def emit(self, delta: AnswerDelta | None) -> None:
        """Passes a delta on to `on_delta`."""
        if delta is not None and self.on_delta is not None:
            self.on_delta(delta)

    def end(self, reason: EndReason) -> None:
        """Ends all open answers. Never raises: an `on_delta` that does is logged."""
        for answer in self.answers:
            if answer.is_open:
                delta = answer.end(reason)
                try:
                    self.emit(delta)
                except Exception:
                    logger.exception("the end of a request cannot be passed on")
        self.on_delta = None

    def release_memory(self) -> None:
        """Drops KV caches and visual tokens; what the prefix cache shares lives on, trimmed.

        Drops the listener too: it holds the request in turn, and such a circle with all its
        pixels would live until Python looks for garbage, which it does by number, not by size.
        """
        self.on_delta = None
        caches = [answer.kv_cache for answer in self.answers if answer.kv_cache is not None]
        for cache in caches or ([self.kv_cache] if self.kv_cache is not None else []):
            cache.ref_count -= 1
            if cache.ref_count:
                cache.trim()
        self.kv_cache, self.media, self.drafting = None, list[MediaEncoding](), None
        for answer in self.answers:
            answer.kv_cache = answer.draft_cache = None
