"""ModelInputs -> answers, for a changing set of requests.

    submit -> waiting -> admitted -> reading.py: crops encoded, then chunks of tokens run
                                  -> decoding.py: all answers in one pass -> ended

A step reads a part of the prompts and adds a token to every answer, so a long prompt holds nobody
up. Nothing of one request depends on another: sequences are packed without padding and attend to
themselves alone. What may differ with the load is the shape of a product, and with it the last bit
of a sum; `EngineSettings.deterministic` fixes the shapes too.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onevision.batch import ModelInputs
from onevision.config import LanguageConfig
from onevision.errors import (
    DeadlineError,
    EngineError,
    OneVisionError,
    QueueFullError,
)
from onevision.generate.admission import fitted, kv_bytes_of, num_positions
from onevision.generate.constrain import constraint_of
from onevision.generate.decode import Turn, Writer, draw, draw_one
from onevision.generate.kv_cache import Span
from onevision.generate.prefill import Reader
from onevision.generate.prefix_cache import block_keys, content_row, media_digests
from onevision.generate.request import Answer, EndReason, FairQueue, Piece, Request
from onevision.generate.sampler import Drawer, Sampling, Token
from onevision.generate.settings import EngineSettings
from onevision.generate.vision_cache import Medium, media_of
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.decoder import Decoder
from onevision.model.llava import LlavaNetwork


@dataclass(frozen=True, kw_only=True)
class Load:
    """How busy an engine is, and what its caches have saved."""

    running: int
    waiting: int
    kv_bytes: int  # reserved by running requests
    remembered_bytes: int
    prefix_hits: int
    prefix_misses: int
    prefix_tokens: int  # of prompts, that were not read again
    encoder_hits: int
    encoder_misses: int
    steps: int


class Engine:
    """Answers requests, many at a time. All methods may be called from any thread."""

    def __init__(
        self,
        network: LlavaNetwork,
        config: LanguageConfig,
        tokenizer: Tokenizer,
        *,
        settings: EngineSettings | None = None,
        writer: Decoder | None = None,
    ) -> None:
        """Answer with `network`; `writer` decodes in place of its language model, if given."""
        self.config, self.tokenizer = config, tokenizer
        self.settings = settings or EngineSettings()
        self.device, self.dtype = network.language_model.device, network.language_model.dtype
        self.reader = Reader(network, self.settings, self._new_span)
        self.writer = Writer(writer or network.language_model, self.settings)
        self.waiting, self.running = FairQueue(), list[Request]()
        self.kv_limit, self.kv_reserved, self.steps = self.settings.kv_limit, 0, 0
        # Held while a step is taken: by whoever runs an engine, again at once after each step, so
        # that others may wait for it for many steps.
        self._lock = threading.RLock()
        self._door = threading.Lock()  # of the queue alone, held for moments

    def submit(
        self,
        prompt: ModelInputs,
        sampling: Sampling,
        *,
        tenant: str = "",
        sink: Callable[[Piece], object] | None = None,
        timeout_seconds: float | None = None,
    ) -> Request:
        """Take on a prompt of one row. Caches are shared within a `tenant`, never across.

        `sink` is called with every piece of the answers, by the thread that takes the step.
        Raises InputError for what can never be answered (ContextLengthError, CapacityError), and
        QueueFullError; nothing has been computed then.
        """
        assert len(prompt.input_ids) == 1, "a request is one row"
        sampling = fitted(prompt, sampling, self.config)
        kv_bytes = kv_bytes_of(prompt, sampling, self.config, dtype=self.dtype, limit=self.kv_limit)
        digests = media_digests(prompt)
        content = content_row(prompt, digests)
        request = Request(
            prompt=prompt,
            sampling=sampling,
            answers=[self._answer(sampling, number) for number in range(sampling.num_answers)],
            tenant=tenant.encode(),
            sink=sink,
            deadline=None if timeout_seconds is None else time.monotonic() + timeout_seconds,
            kv_bytes=kv_bytes,
            content=content,
            keys=block_keys(content, salt=tenant.encode()),
            media=media_of(prompt, digests),
        )
        with self._door:
            if len(self.waiting) >= self.settings.max_waiting + self._free_places():
                raise QueueFullError(
                    f"{len(self.waiting)} requests are waiting already; ask again later"
                )
            self.waiting.put(request)
        return request

    def cancel(self, request: Request) -> None:
        """Stop answering; the next step takes the request out and gives its memory back."""
        request.cancelled = True

    def abandon(self, error: OneVisionError) -> None:
        """End all requests with `error`. For an engine that has broken down: take no more steps."""
        with self._lock:
            with self._door:
                waiting = self.waiting.remove(lambda _: True)
            for request in [*self.running, *waiting]:
                request.error = error
                for answer in request.answers:
                    if answer.is_open:
                        request.give(answer.end("error"))
            self.running.clear()

    def run(self, requests: Sequence[Request]) -> None:
        """Take steps until all of `requests` have ended. Threads may do so together."""
        while not all(request.finished for request in requests):
            with self._lock:
                if not all(request.finished for request in requests):
                    self.step()

    @torch.inference_mode()
    def step(self) -> bool:
        """Read a part of the prompts, add to every answer; return whether work is left."""
        with self._lock:
            self.steps += 1
            self._take_out()
            self._admit()
            self._read()
            self._write()
            return bool(self.running or len(self.waiting))

    @property
    def load(self) -> Load:
        """How busy it is, at a moment within a step perhaps: nobody waits for its end."""
        prefixes, encoder = self.reader.prefixes, self.reader.encoder
        with self._door:
            waiting = len(self.waiting)
        return Load(
            running=len(self.running),
            waiting=waiting,
            kv_bytes=self.kv_reserved,
            remembered_bytes=prefixes.idle_bytes,
            prefix_hits=prefixes.hits,
            prefix_misses=prefixes.misses,
            prefix_tokens=prefixes.tokens_saved,
            encoder_hits=encoder.hits,
            encoder_misses=encoder.misses,
            steps=self.steps,
        )

    def _answer(self, sampling: Sampling, number: int) -> Answer:
        constraint = constraint_of(sampling, self.tokenizer, vocab_size=self.config.vocab_size)
        drawer = Drawer(sampling, number=number, constraint=constraint)
        return Answer(number, drawer, self.tokenizer.stream())

    def _new_span(self, request: Request) -> Span:
        capacity = num_positions(request.prompt, request.sampling)
        return Span(self.config, capacity, dtype=self.dtype, device=self.device)

    def _free_places(self) -> int:
        return self.settings.max_running - len(self.running)

    def _take_out(self) -> None:
        """End what was cancelled or is late."""
        now = time.monotonic()

        def is_over(request: Request) -> bool:
            return request.cancelled or (request.deadline is not None and now > request.deadline)

        with self._door:
            waiting = self.waiting.remove(is_over)
        for request in [*filter(is_over, self.running), *waiting]:
            if request.cancelled:
                self._end(request, "cancelled")
            else:
                after = now - request.arrived
                self._fail(request, DeadlineError(f"no whole answer after {after:.1f} s"))

    def _admit(self) -> None:
        """Let requests in while there is a place, and memory for all they may come to need."""
        while self._free_places() and (request := self._next()) is not None:
            request.admitted = time.monotonic()
            self.running.append(request)
            self.kv_reserved += request.kv_bytes
            self.reader.prefixes.shrink(self.kv_limit - self.kv_reserved)

    def _next(self) -> Request | None:
        """Take whose turn it is, if there is memory for it."""
        with self._door:
            first = self.waiting.first()
            if first is None or self.kv_reserved + first.kv_bytes > self.kv_limit:
                return None
            return self.waiting.take()

    def _read(self) -> None:
        prompts = [request for request in self.running if not request.is_read]
        if not prompts:
            return
        try:
            done = self.reader.read(prompts)
        except (RuntimeError, MemoryError) as error:
            self._fail(prompts[0], EngineError(f"reading the prompt failed: {error}"))
            return
        for request, logits in done:
            self._begin_answers(request, logits)

    def _begin_answers(self, request: Request, logits: Tensor) -> None:
        """Give every answer its own copy of the prompt, and its first token."""
        request.encode_seconds = sum(medium.seconds for medium in request.media)
        request.is_read, request.media = True, list[Medium]()
        request.answering = time.monotonic()
        assert request.span is not None
        for answer in request.answers:
            answer.span = request.span
            if answer.number:
                answer.span = self._new_span(request)
                answer.span.take_from(request.span, request.num_tokens)
        self._go_on(request, [(answer, lambda a=answer: [draw_one(a, logits)])
                              for answer in request.answers])  # fmt: skip

    def _write(self) -> None:
        answers = [(r, a) for r in self.running if r.is_read for a in r.answers if a.is_open]
        if not answers:
            return
        try:
            turns = list(self.writer.write(answers))
        except (RuntimeError, MemoryError) as error:
            for request in {id(r): r for r, _ in answers}.values():
                self._fail(request, EngineError(f"the model failed: {error}"))
            return
        by_request: dict[int, list[tuple[Turn, Tensor]]] = {}
        for turn, logits in turns:
            by_request.setdefault(turn.request.number, []).append((turn, logits))
        for own in by_request.values():
            self._go_on(own[0][0].request, [(turn.answer, lambda t=turn, x=logits: draw(t, x))
                                            for turn, logits in own])  # fmt: skip

    def _go_on(
        self, request: Request, answers: Sequence[tuple[Answer, Callable[[], list[Token]]]]
    ) -> None:
        """Draw for the answers of a request; its faults are its own."""
        try:
            for answer, drawn in answers:
                for token in drawn():
                    if answer.is_open:
                        request.give(answer.push(token))
        except OneVisionError as error:
            self._fail(request, error)
            return
        if request.finished:
            self._release(request)

    def _fail(self, request: Request, error: OneVisionError) -> None:
        request.error = error
        self._end(request, "error")

    def _end(self, request: Request, reason: EndReason) -> None:
        for answer in request.answers:
            if answer.is_open:
                request.give(answer.end(reason))
        if request in self.running:
            self._release(request)

    def _release(self, request: Request) -> None:
        """Give the memory back, but for what may be of use again."""
        self.running.remove(request)
        self.kv_reserved -= request.kv_bytes
        spans = [answer.span for answer in request.answers if answer.span is not None]
        if request.is_read and not (request.error or request.cancelled):
            for answer, span in zip(request.answers, spans, strict=True):
                self.reader.remember(self._keys(request, answer), span)
        for span in spans or ([request.span] if request.span is not None else []):
            span.holders -= 1
            if span.holders:
                span.trim()
        request.span, request.media = None, list[Medium]()
        for answer in request.answers:
            answer.span = None
        self.reader.prefixes.shrink(self.kv_limit - self.kv_reserved)

    def _keys(self, request: Request, answer: Answer) -> list[bytes]:
        """Return the keys of a prompt and its answer: what the next turn begins with."""
        said = np.zeros((len(answer.ids), request.content.shape[1]), dtype=np.int64)
        said[:, 0] = answer.ids
        return block_keys(np.concatenate([request.content, said]), salt=request.tenant)
