"""GenerationRequest -> AnswerStream: preparing, the engine and metrics of one served model.

Everything that blocks runs in threads; the event loop only passes deltas on.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from onevision import __version__
from onevision.accelerate.packed import named_tensors
from onevision.accelerate.pools import compute_alone
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.settings import EngineSettings
from onevision.inputs.sandbox import Cancellation, Sandbox
from onevision.serve.answering import AnswerStream
from onevision.serve.engines import Engines
from onevision.serve.fetch import Fetcher
from onevision.serve.generation_request import GenerationRequest
from onevision.serve.keys import KeyRing
from onevision.serve.metrics import Metrics
from onevision.serve.preparing import Preparer, PromptCost, ReadRequest
from onevision.serve.schema.chat_completion import ChatWriter
from onevision.serve.schema.logprobs import LogprobWriter
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.response import ResponseWriter
from onevision.serve.schema.response_request import ResponsesRequest
from onevision.serve.served import ServedModel, find_served
from onevision.serve.settings import ServerSettings
from onevision.serve.supervisor import Supervisor
from onevision.serve.threads import in_thread
from onevision.serve.turns import Share, Turns

Value = TypeVar("Value")
# Threads that read URLs, and prepare requests without media; and those that parse bodies.
NUM_READERS, NUM_PARSERS = 8, 4


class Stage:
    """Threads for one kind of work, which keys take in turns."""

    def __init__(self, name: str, num_threads: int) -> None:
        # Twice as many: a request that is cancelled leaves its place before its thread.
        self.threads = ThreadPoolExecutor(
            2 * num_threads, thread_name_prefix=name, initializer=compute_alone
        )
        self.turns = Turns(num_threads)


class Service:
    """A model with everything needed to answer requests; knows nothing of HTTP.

    `variants` are the same model with adapters, by the part of their names after the colon.
    """

    def __init__(
        self,
        model: Model,
        settings: ServerSettings,
        *,
        variants: Mapping[str, Model] = MappingProxyType({}),
        keys: KeyRing | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.model, self.settings, self.keys = model, settings, keys or KeyRing(settings)
        limits = settings.limits
        models = {settings.name: model}
        models |= {f"{settings.name}:{name}": one for name, one in variants.items()}
        engine_settings = EngineSettings(
            max_running=limits.running,
            max_waiting=limits.queue,
            kv_bytes=limits.kv_bytes // len(models),
            encoder_bytes=limits.encoder_bytes // len(models),
            draft_tokens=model.settings.draft_tokens,
            kv_int8=model.settings.kv_int8,
        )
        supervisors = [Supervisor(one, engine_settings) for one in models.values()]
        self.supervisor, self.engines = supervisors[0], Engines(supervisors)
        self.sandbox = Sandbox(replace(limits.sandbox, require_sandbox=settings.require_sandbox))
        self.metrics = Metrics(self.engines, self.sandbox)
        self.created = int(time.time())  # seconds since 1970
        self._logprobs = LogprobWriter(model.processor.tokenizer)
        fetcher = fetcher or Fetcher(settings.media_hosts, seconds=limits.fetch_seconds)
        self.served = tuple(
            ServedModel(
                name=name,
                model=one,
                supervisor=supervisor,
                preparer=Preparer(
                    one,
                    replace(settings, name=name),
                    sandbox=self.sandbox,
                    fetcher=fetcher,
                    metrics=self.metrics,
                ),
                fingerprint=hash_weights(supervisor.engine),
            )
            for (name, one), supervisor in zip(models.items(), supervisors, strict=True)
        )
        # Separate from asyncio's own threads, which are for short calls, and from each other:
        # words must not queue behind media.
        self._parsing = Stage("parse", NUM_PARSERS)
        self._reading = Stage("read", NUM_READERS)
        self._decoding = Stage("decode", self.sandbox.size)
        self._waiting = Share(limits.preparing, full="requests are being prepared")
        self._waiting_with_media = Share(limits.preparing, full="requests' media are being read")
        self.bodies = Share(limits.bodies_bytes, full="bytes are being read")
        self.share_among_keys()

    async def parse(self, call: Callable[[], Value], *, key: str) -> Value:
        """Calls what parses a body, when it is the key's turn. Raises ApiError."""
        async with self._parsing.turns.take(key):
            return await in_thread(call, threads=self._parsing.threads)

    async def answer(self, request: GenerationRequest, *, key: str = "") -> AnswerStream:
        """Prepares a request and submits it to the engine. Raises ApiError."""
        served = self.find(request.model)
        prepared = await self._prepare(
            request, key, lambda read, gone: served.preparer.prepare(read, key=key, gone=gone)
        )
        stream = AnswerStream(
            prepared,
            supervisor=served.supervisor,
            metrics=self.metrics,
            request_seconds=self.settings.limits.request_seconds,
        )
        await stream.submit()
        return stream

    async def count(self, request: GenerationRequest, *, key: str = "") -> PromptCost:
        """Counts the tokens of a prompt; no pixel is decoded. Raises ApiError."""
        served = self.find(request.model)
        return await self._prepare(
            request, key, lambda read, gone: served.preparer.count(read, gone=gone)
        )

    def find(self, name: str) -> ServedModel:
        """Returns the model that a request names. Raises ApiError."""
        return find_served(self.served, name)

    @property
    def fingerprint(self) -> str:
        """The system fingerprint of the base model."""
        return self.served[0].fingerprint

    def reload_keys(self) -> None:
        """Reads the key files again; answers continue. Raises InputError, keeping the old keys."""
        self.keys.reload()
        self.share_among_keys()

    def share_among_keys(self) -> None:
        """Limits what one key may have of each thing, if there are several."""
        limits, several = self.settings.limits, self.keys.are_several
        for share, most in (
            (self._waiting, limits.preparing_per_key),
            (self._waiting_with_media, limits.preparing_per_key),
            (self.bodies, limits.bodies_bytes_per_key),
        ):
            share.most_per_key = min(most, share.most) if several else share.most
        for stage in (self._parsing, self._reading, self._decoding):
            places = stage.turns.places
            # One place is always left to the others, so that none waits for a whole job.
            stage.turns.places_per_key = max(1, places - 1) if several else places
        self.engines.limit_tenants(
            running=max(1, min(limits.running_per_key, limits.running)) if several else None,
            waiting=min(limits.queue_per_key, limits.queue) if several else None,
        )

    def new_chat_writer(self, model: str) -> ChatWriter:
        """Returns a writer for the answers to one chat request to `model`."""
        return ChatWriter(
            number=new_id(),
            created=int(time.time()),
            model=model,
            fingerprint=self.find(model).fingerprint,
            logprobs=self._logprobs,
        )

    def new_response_writer(self, request: ResponsesRequest) -> ResponseWriter:
        """Returns a writer for the answer to one request of the Responses API."""
        return ResponseWriter(
            request, number=new_id(), created=int(time.time()), logprobs=self._logprobs
        )

    def close(self) -> None:
        """Stops the engine, the sandbox and the threads."""
        self.engines.stop()
        self.model.close()
        self.sandbox.close()
        for stage in (self._parsing, self._reading, self._decoding):
            stage.threads.shutdown(wait=False, cancel_futures=True)

    async def _prepare(
        self,
        request: GenerationRequest,
        key: str,
        prepare: Callable[[ReadRequest, Cancellation], Value],
    ) -> Value:
        """Reads a request's URLs, then prepares it; each when it is the key's turn.

        Ends early if the client disconnects.
        """
        read = self.find(request.model).preparer.read
        if not request.media:
            with self._waiting.hold(key):
                return await self._run(
                    self._reading, key, lambda gone: prepare(read(request), gone)
                )
        with self._waiting_with_media.hold(key):
            ready = await self._run(self._reading, key, lambda _: read(request))
            return await self._run(self._decoding, key, lambda gone: prepare(ready, gone))

    async def _run(self, stage: Stage, key: str, call: Callable[[Cancellation], Value]) -> Value:
        gone, seconds = Cancellation(), self.settings.limits.media_wait_seconds
        async with AsyncExitStack() as place:
            try:
                async with asyncio.timeout(seconds):
                    await place.enter_async_context(stage.turns.take(key))
            except TimeoutError as error:
                raise _no_decoder(f"no decoder became free within {seconds:g} s") from error
            try:
                return await in_thread(lambda: call(gone), threads=stage.threads)
            except asyncio.CancelledError:
                gone.cancel()
                raise


def _no_decoder(reason: str) -> ApiError:
    return ApiError(f"{reason}; try again later", status=503, code="decoders_busy", retry_after=5)


def hash_weights(engine: Engine) -> str:
    """Returns the system fingerprint: a hash of the code's version and of the weights in use.

    Of every tensor that the engine runs, quantised ones included: name, shape, type, device and 64
    values.
    """
    digest = hashlib.sha256(__version__.encode())
    for name, tensor in named_tensors(engine.prefiller.network):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}".encode())
        flat = tensor.flatten()
        step = max(1, flat.numel() // 64)
        digest.update(flat[::step].float().cpu().numpy().tobytes())
    return f"fp_{digest.hexdigest()[:12]}"


def new_id() -> str:
    """Returns a random id, 24 hexadecimal digits."""
    return secrets.token_hex(12)
