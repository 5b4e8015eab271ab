"""A model that answers questions of the wire: preparing, the engine and what is measured, joined.

Everything that takes time runs in threads; the event loop only passes pieces on.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onevision.generate.answer import Model
from onevision.generate.settings import EngineSettings
from onevision.inputs.sandbox import Gone, Sandbox
from onevision.serve.answering import Answering
from onevision.serve.fetch import Fetcher
from onevision.serve.identity import fingerprint
from onevision.serve.metrics import Metrics
from onevision.serve.preparing import Counted, Preparer
from onevision.serve.question import Question
from onevision.serve.schema.problems import ApiError
from onevision.serve.settings import ServerSettings
from onevision.serve.supervisor import Supervisor
from onevision.serve.threads import in_thread

Value = TypeVar("Value")


class Service:
    """A model that answers questions of the wire."""

    def __init__(
        self, model: Model, settings: ServerSettings, *, fetcher: Fetcher | None = None
    ) -> None:
        self.model, self.settings = model, settings
        limits = settings.limits
        engine = EngineSettings(
            max_running=limits.running,
            max_waiting=limits.queue,
            kv_bytes=limits.kv_bytes,
            encoder_bytes=limits.encoder_bytes,
        )
        self.supervisor = Supervisor(model, engine)
        self.sandbox = Sandbox(limits.sandbox)
        self.metrics = Metrics(self.supervisor, self.sandbox)
        self.fingerprint = fingerprint(self.supervisor.engine)
        self.created = int(time.time())
        self._preparer = Preparer(
            model,
            settings,
            sandbox=self.sandbox,
            fetcher=fetcher or Fetcher(settings.media_hosts, seconds=limits.fetch_seconds),
            metrics=self.metrics,
        )
        # Apart from the short acts, which must not queue up behind decoding.
        self._preparing = ThreadPoolExecutor(8, thread_name_prefix="prepare")
        self._num_preparing = 0  # requests in these threads, or waiting for one

    @staticmethod
    def created_now() -> int:
        """Return the time of an answer, in seconds since 1970."""
        return int(time.time())

    async def ask(self, question: Question, *, key: str = "") -> Answering:
        """Prepare a question and hand it to the engine. Raises ApiError."""
        prepared = await self._prepared(
            lambda gone: self._preparer.prepare(question, key=key, gone=gone)
        )
        answering = Answering(
            prepared,
            supervisor=self.supervisor,
            metrics=self.metrics,
            request_seconds=self.settings.limits.request_seconds,
        )
        await answering.submit()
        return answering

    async def count(self, question: Question) -> Counted:
        """Count the tokens of a question; no pixel is decoded. Raises ApiError."""
        return await self._prepared(lambda gone: self._preparer.count(question, gone=gone))

    def close(self) -> None:
        """Answer nothing any more."""
        self.supervisor.stop()
        self.sandbox.close()
        self._preparing.shutdown(wait=False, cancel_futures=True)

    async def _prepared(self, act: Callable[[Gone], Value]) -> Value:
        """Let `act` read media in its turn, and end it where the client goes away."""
        most, gone = self.settings.limits.preparing, Gone()
        if self._num_preparing >= most:
            raise ApiError(
                f"{most} requests are being read; ask again later",
                status=429, code="queue_full", retry_after=2,
            )  # fmt: skip
        self._num_preparing += 1
        try:
            return await in_thread(lambda: act(gone), threads=self._preparing)
        except asyncio.CancelledError:
            gone.say()
            raise
        finally:
            self._num_preparing -= 1
