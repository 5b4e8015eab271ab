"""ModelInputs -> answers, for a changing set of requests (continuous batching).

    submit -> scheduler -> prefill -> decode -> sampler -> deltas of the answers

A step prefills a chunk of the prompts and adds a token to every answer, so a long prompt delays no
one. No request depends on another: sequences are packed without padding and attend to themselves
alone, and an exception while one is advanced ends that one. What may differ with the load is the
shape of a matrix product, and with it the last bits of its sums; `EngineSettings.deterministic`
fixes the shapes too.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from onevision.batch import ModelInputs
from onevision.config import LanguageConfig
from onevision.errors import DeadlineError, EngineError, OneVisionError
from onevision.generate.constrain import compile_constraint
from onevision.generate.decode import BatchDecoder, DecodeStep, sample_token
from onevision.generate.drafter import Drafter
from onevision.generate.graphed_decoder import StepTaker
from onevision.generate.int8_kv_cache import Int8KVCache
from onevision.generate.kv_cache import KVCache, count_position_bytes
from onevision.generate.prefill import Prefiller
from onevision.generate.prefix_cache import (
    PrefixCache,
    content_rows,
    hash_blocks,
    hash_media,
    hash_salt,
)
from onevision.generate.request import Answer, AnswerDelta, EndReason, Request
from onevision.generate.sampler import Sampler, Sampling, Token
from onevision.generate.scheduler import Scheduler, count_kv_bytes, count_positions, fit_sampling
from onevision.generate.settings import EngineSettings
from onevision.generate.stats import EngineStats
from onevision.generate.vision_cache import MediaEncoding, pending_encodings
from onevision.inputs.tokenizer import Tokenizer
from onevision.model.llava import LlavaNetwork

logger = logging.getLogger(__name__)


class Engine:
    """Answers requests, many at a time. All methods may be called from any thread."""

    def __init__(
        self,
        network: LlavaNetwork,
        config: LanguageConfig,
        tokenizer: Tokenizer,
        *,
        settings: EngineSettings,
        new_kv_cache: Callable[[int], KVCache] | None = None,
        new_step_taker: Callable[[], StepTaker] | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        """Creates an engine; `Model.new_engine` is the way to do so.

        `new_kv_cache` (of a capacity) and `new_step_taker` are those of devices that share a model.
        """
        self.config, self.tokenizer, self.settings = config, tokenizer, settings
        self.device, self.dtype = network.language_model.device, network.language_model.dtype
        self.prefix_cache = PrefixCache(enabled=settings.prefix_cache)
        self.scheduler = Scheduler(settings, self.prefix_cache)
        self.prefiller = Prefiller(network, settings, self.prefix_cache, self._new_kv_cache)
        self.drafter = drafter
        self.batch_decoder = BatchDecoder(network.language_model, settings, drafter, new_step_taker)
        self._make_kv_cache = new_kv_cache or self._make_whole_kv_cache
        own = count_position_bytes(config, self.dtype, in_int8=settings.kv_int8)
        self._position_bytes = own + (drafter.position_bytes if drafter is not None else 0)
        self.steps = 0
        # Held during a step. A thread that runs an engine takes it again at once after each step,
        # so others may wait for it through many steps.
        self._step_lock = threading.RLock()

    def submit(
        self,
        prompt: ModelInputs,
        sampling: Sampling,
        *,
        tenant: str = "",
        cache_salt: str = "",
        on_delta: Callable[[AnswerDelta], object] | None = None,
        timeout_seconds: float | None = None,
    ) -> Request:
        """Accepts a prompt (B = 1); the steps that follow answer it.

        Tenants take turns, whatever their `cache_salt`. Cached prefixes and visual tokens are
        shared within a tenant and salt, never across. `on_delta` is called with every delta of the
        answers, by the thread that takes the step; if it raises, the request ends. Raises
        InputError if it can never be answered (ContextLengthError, CapacityError), and
        QueueFullError; nothing has been computed then.
        """
        assert len(prompt.input_ids) == 1, "a request is one row"
        sampling = fit_sampling(prompt, sampling, self.config)
        kv_bytes = count_kv_bytes(
            prompt, sampling, position_bytes=self._position_bytes, limit=self.scheduler.kv_limit
        )
        salt, digests = hash_salt(tenant, cache_salt), hash_media(prompt)
        content = content_rows(prompt, digests)
        request = Request(
            prompt=prompt,
            sampling=sampling,
            answers=self._new_answers(sampling),
            tenant=tenant,
            salt=salt,
            on_delta=on_delta,
            deadline=None if timeout_seconds is None else time.monotonic() + timeout_seconds,
            kv_bytes=kv_bytes,
            content=content,
            block_hashes=hash_blocks(content, salt=salt),
            media=pending_encodings(prompt, digests, salt=salt),
        )
        if self.drafter is not None:
            self.drafter.add(request)
        self.scheduler.enqueue(request)
        return request

    def cancel(self, request: Request) -> None:
        """Cancels a request; the next step removes it and frees its memory."""
        request.cancelled = True

    def abandon(self, error: OneVisionError) -> None:
        """Ends all requests with `error`, for an engine that has failed and takes no more steps."""
        with self._step_lock:
            for request in self.scheduler.drain():
                request.error = error
                request.end("error")

    def run(self, requests: Sequence[Request]) -> None:
        """Takes steps until all of `requests` have ended. Several threads may do so together."""
        while not all(request.finished for request in requests):
            with self._step_lock:
                if not all(request.finished for request in requests):
                    self.step()

    @torch.inference_mode()
    def step(self) -> bool:
        """Prefills a chunk of prompts, extends every answer, and returns whether work is left."""
        with self._step_lock:
            self.steps += 1
            self._end_overdue()
            self.scheduler.admit()
            self._prefill()
            self._decode()
            return self.scheduler.has_work

    @property
    def stats(self) -> EngineStats:
        """The numbers of this moment, perhaps within a step: reading them waits for no step."""
        scheduler, prefixes = self.scheduler, self.prefix_cache
        vision = self.prefiller.vision_cache
        return EngineStats(
            running=len(scheduler.running),
            waiting=scheduler.num_waiting,
            kv_bytes=scheduler.kv_reserved,
            kv_limit=scheduler.kv_limit,
            prefix_bytes=prefixes.idle_bytes,
            prefix_hits=prefixes.hits,
            prefix_misses=prefixes.misses,
            prefix_tokens=prefixes.tokens_saved,
            encoder_hits=vision.hits,
            encoder_misses=vision.misses,
            drafted_tokens=self.batch_decoder.drafted_tokens,
            accepted_tokens=self.batch_decoder.accepted_tokens,
            steps=self.steps,
            graphed_steps=self.batch_decoder.graphed_steps,
        )

    def _end_overdue(self) -> None:
        """Ends requests that were cancelled or whose time is up."""
        for request in self.scheduler.find_overdue():
            if request.cancelled:
                self._end(request, "cancelled")
            else:
                after = time.monotonic() - request.arrived_at
                self._fail(request, DeadlineError(f"no whole answer after {after:.1f} s"))

    def _prefill(self) -> None:
        requests = [request for request in self.scheduler.running if not request.is_prefilled]
        if not requests:
            return
        for request, logits in self._run_prefiller(requests):
            with self._ending_alone(request, "no answer can be started"):
                self._start_answers(request, logits)

    def _run_prefiller(self, requests: list[Request]) -> list[tuple[Request, Tensor]]:
        """Prefills a chunk; if that fails, request by request, which shows whose fault it is."""
        lengths = [0 if r.kv_cache is None else r.kv_cache.length for r in requests]
        try:
            return self.prefiller.step(requests)
        except Exception:
            logger.exception("prefilling %d prompts failed; trying each alone", len(requests))
        done = list[tuple[Request, Tensor]]()
        for request, length in zip(requests, lengths, strict=True):
            if request.kv_cache is not None:
                request.kv_cache.length = length  # drops what the failed pass added
            with self._ending_alone(request, "prefilling the prompt failed"):
                done += self.prefiller.step([request])
        return done

    def _start_answers(self, request: Request, logits: Tensor) -> None:
        """Gives every answer a KV cache that begins with the prompt, and its first token."""
        request.encode_seconds = sum(medium.seconds for medium in request.media)
        request.is_prefilled, request.media = True, list[MediaEncoding]()
        request.decoding_since = time.monotonic()
        assert request.kv_cache is not None
        for answer in request.answers:
            answer.kv_cache = request.kv_cache
            if answer.number:
                answer.kv_cache = self._new_kv_cache(request)
                answer.kv_cache.copy_prefix(request.kv_cache, request.num_tokens)
        self._extend(request, ((a, [sample_token(a, logits)]) for a in request.answers))

    def _decode(self) -> None:
        running = self.scheduler.running
        answers = [(r, a) for r in running if r.is_prefilled for a in r.answers if a.is_open]
        if not answers:
            return
        try:
            self._extend_all(self.batch_decoder.step(answers))
        except Exception:
            logger.exception("a step of %d answers failed; trying each request alone", len(answers))
            for request in {r.number: r for r, _ in answers}.values():
                with self._ending_alone(request, "the model failed"):
                    self._decode_alone(request)

    def _decode_alone(self, request: Request) -> None:
        own = [(request, answer) for answer in request.answers if answer.is_open]
        for _, answer in own:
            assert answer.kv_cache is not None
            # Drops what the failed pass added.
            answer.kv_cache.length = request.num_tokens + len(answer.ids) - 1
        self._extend_all(self.batch_decoder.step(own))

    def _extend_all(self, steps: Iterable[tuple[DecodeStep, Tensor]]) -> None:
        """Samples from the logits of whole passes; nothing is sampled if one of them fails."""
        by_request: dict[int, list[tuple[DecodeStep, Tensor]]] = {}
        for step, logits in list(steps):
            by_request.setdefault(step.request.number, []).append((step, logits))
        for own in by_request.values():
            self._extend(
                own[0][0].request,
                ((s.answer, self.batch_decoder.sample(s, rows)) for s, rows in own),
            )

    def _extend(self, request: Request, sampled: Iterable[tuple[Answer, list[Token]]]) -> None:
        """Appends tokens to answers as they are sampled; an error ends this request alone."""
        with self._ending_alone(request, "no token can be added to the answer"):
            for answer, tokens in sampled:
                for token in tokens:
                    if answer.is_open:
                        request.emit(answer.push(token))
            if request.finished:
                self.prefix_cache.add_answers(request)
                self.scheduler.evict(request)

    @contextmanager
    def _ending_alone(self, request: Request, what: str) -> Iterator[None]:
        """Ends a request, and nothing else, with the exception that a block raises."""
        try:
            yield
        except OneVisionError as error:
            self._fail(request, error)
        except Exception as error:
            logger.exception("%s", what)
            self._fail(request, EngineError(f"{what}: {error}"))

    def _fail(self, request: Request, error: OneVisionError) -> None:
        request.error = error
        self._end(request, "error")

    def _end(self, request: Request, reason: EndReason) -> None:
        request.end(reason)
        if request in self.scheduler.running:
            self.scheduler.evict(request)

    def _new_answers(self, sampling: Sampling) -> list[Answer]:
        """Creates the answers of a request; what they must match is compiled once."""
        form = compile_constraint(sampling, self.tokenizer, vocab_size=self.config.vocab_size)
        answers = list[Answer]()
        for number in range(sampling.num_answers):
            own = form.copy() if form is not None else None
            sampler = Sampler(sampling, number=number, constraint=own)
            answers.append(Answer(number, sampler, self.tokenizer.stream()))
        return answers

    def _new_kv_cache(self, request: Request) -> KVCache:
        return self._make_kv_cache(count_positions(request.prompt, request.sampling))

    def _make_whole_kv_cache(self, capacity: int) -> KVCache:
        kind = Int8KVCache if self.settings.kv_int8 else KVCache
        return kind(self.config, capacity, dtype=self.dtype, device=self.device)
