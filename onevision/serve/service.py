"""GenerationRequest -> AnswerStream: preparing, the engine and metrics of one served model.

Everything that blocks runs in threads; the event loop only passes deltas on.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onevision import __version__
from onevision.accelerate.packed import named_tensors
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.settings import EngineSettings
from onevision.inputs.sandbox import Cancellation, Sandbox
from onevision.serve.answering import AnswerStream
from onevision.serve.fetch import Fetcher
from onevision.serve.generation_request import GenerationRequest
from onevision.serve.metrics import Metrics
from onevision.serve.preparing import Preparer, PromptCost
from onevision.serve.schema.chat_completion import ChatWriter
from onevision.serve.schema.problems import ApiError
from onevision.serve.schema.response import ResponseWriter
from onevision.serve.schema.response_request import ResponsesRequest
from onevision.serve.settings import ServerSettings
from onevision.serve.supervisor import Supervisor
from onevision.serve.threads import in_thread

Value = TypeVar("Value")


class Service:
    """One model with everything needed to answer requests; knows nothing of HTTP."""

    def __init__(
        self, model: Model, settings: ServerSettings, *, fetcher: Fetcher | None = None
    ) -> None:
        self.model, self.settings = model, settings
        limits = settings.limits
        engine_settings = EngineSettings(
            max_running=limits.running,
            max_waiting=limits.queue,
            max_waiting_per_tenant=(
                min(limits.queue_per_key, limits.queue) if len(settings.keys) > 1 else None
            ),
            kv_bytes=limits.kv_bytes,
            encoder_bytes=limits.encoder_bytes,
        )
        self.supervisor = Supervisor(model, engine_settings)
        self.sandbox = Sandbox(limits.sandbox)
        self.metrics = Metrics(self.supervisor, self.sandbox)
        self.fingerprint = hash_weights(self.supervisor.engine)
        self.created = int(time.time())  # seconds since 1970
        self._preparer = Preparer(
            model,
            settings,
            sandbox=self.sandbox,
            fetcher=fetcher or Fetcher(settings.media_hosts, seconds=limits.fetch_seconds),
            metrics=self.metrics,
        )
        # Separate from asyncio's own threads: short calls must not queue behind media decoding.
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="prepare")
        self._num_preparing = 0  # requests in these threads, or waiting for one

    async def answer(self, request: GenerationRequest, *, key: str = "") -> AnswerStream:
        """Prepares a request and submits it to the engine. Raises ApiError."""
        prepared = await self._prepare(
            lambda gone: self._preparer.prepare(request, key=key, gone=gone)
        )
        stream = AnswerStream(
            prepared,
            supervisor=self.supervisor,
            metrics=self.metrics,
            request_seconds=self.settings.limits.request_seconds,
        )
        await stream.submit()
        return stream

    async def count(self, request: GenerationRequest) -> PromptCost:
        """Counts the tokens of a prompt; no pixel is decoded. Raises ApiError."""
        return await self._prepare(lambda gone: self._preparer.count(request, gone=gone))

    def new_chat_writer(self) -> ChatWriter:
        """Returns a writer for the answers to one chat request."""
        return ChatWriter(
            number=new_id(),
            created=int(time.time()),
            model=self.settings.name,
            fingerprint=self.fingerprint,
            tokenizer=self.model.processor.tokenizer,
        )

    def new_response_writer(self, request: ResponsesRequest) -> ResponseWriter:
        """Returns a writer for the answer to one request of the Responses API."""
        tokenizer = self.model.processor.tokenizer
        return ResponseWriter(
            request, number=new_id(), created=int(time.time()), tokenizer=tokenizer
        )

    def close(self) -> None:
        """Stops the engine, the sandbox and the threads."""
        self.supervisor.stop()
        self.sandbox.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _prepare(self, call: Callable[[Cancellation], Value]) -> Value:
        """Runs `call` in a thread of its own pool; ends it if the client disconnects."""
        most, gone = self.settings.limits.preparing, Cancellation()
        if self._num_preparing >= most:
            raise ApiError(
                f"{most} requests are being read; try again later",
                status=429, code="queue_full", retry_after=2,
            )  # fmt: skip
        self._num_preparing += 1
        try:
            return await in_thread(lambda: call(gone), threads=self._threads)
        except asyncio.CancelledError:
            gone.cancel()
            raise
        finally:
            self._num_preparing -= 1


def hash_weights(engine: Engine) -> str:
    """Returns the system fingerprint: a hash of the code's version and of the weights in use.

    Of every tensor that the engine runs, quantised ones included: name, shape, type, device and 64
    values.
    """
    digest = hashlib.sha256(__version__.encode())
    network, decoder = engine.prefiller.network, engine.batch_decoder.decoder
    copies = () if decoder is network.language_model else (decoder,)
    for module in (network, *copies):
        for name, tensor in named_tensors(module):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}".encode())
            flat = tensor.flatten()
            step = max(1, flat.numel() // 64)
            digest.update(flat[::step].float().cpu().numpy().tobytes())
    return f"fp_{digest.hexdigest()[:12]}"


def new_id() -> str:
    """Returns a random id, 24 hexadecimal digits."""
    return secrets.token_hex(12)
