"""What a server did, for Prometheus: vLLM's names with our prefix, so dashboards carry over."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from onevision.generate.request import Piece, Request
from onevision.inputs.sandbox import Sandbox
from onevision.serve.supervisor import Supervisor

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class Metrics:
    """Counts and durations; labels come from closed sets, never from a request's words."""

    def __init__(self, supervisor: Supervisor, sandbox: Sandbox) -> None:
        self.registry = CollectorRegistry()
        self._supervisor, self._sandbox = supervisor, sandbox
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens of answers.")
        self.success = self._counter("request_success", "Whole answers.", "finished_reason")
        self.aborted = self._counter("requests_aborted", "Requests that clients left.")
        self.failed = self._counter("requests_failed", "Requests that failed.")
        self.media_rejected = self._counter("media_rejected", "Refused media.", "code")
        self.http = self._counter("http_requests", "Answers.", "handler", "method", "status")
        self.first = self._histogram("time_to_first_token_seconds", SECONDS)
        self.between = self._histogram("inter_token_latency_seconds", SECONDS)
        self.whole = self._histogram("e2e_request_latency_seconds", SECONDS)
        self.queued = self._histogram("request_queue_time_seconds", SECONDS)
        self.prefill = self._histogram("request_prefill_time_seconds", SECONDS)
        self.encode = self._histogram("vision_encode_seconds", SECONDS)
        self.decode = self._histogram("request_decode_time_seconds", SECONDS)
        self.prompt_lengths = self._histogram("request_prompt_tokens", TOKENS)
        self.answer_lengths = self._histogram("request_generation_tokens", TOKENS)
        self.media_seconds = self._histogram("media_decode_seconds", SECONDS, "kind")
        self.read_seconds = self._histogram("media_read_seconds", SECONDS, "kind")
        self._gauges = {name: Gauge(f"onevision:{name}", text, registry=self.registry)
                        for name, text in GAUGES.items()}  # fmt: skip

    def text(self) -> bytes:
        """Return everything in Prometheus' format."""
        load = self._supervisor.engine.load
        limit = self._supervisor.engine.kv_limit
        for name, value in {
            "num_requests_running": load.running,
            "num_requests_waiting": load.waiting,
            "kv_cache_usage_perc": load.kv_bytes / limit if limit else 0,
            "prefix_cache_queries": load.prefix_hits + load.prefix_misses,
            "prefix_cache_hits": load.prefix_hits,
            "prefix_cache_tokens": load.prefix_tokens,
            "prefix_cache_bytes": load.remembered_bytes,
            "encoder_cache_queries": load.encoder_hits + load.encoder_misses,
            "encoder_cache_hits": load.encoder_hits,
            "decode_worker_restarts_total": self._sandbox.num_restarts,
            "engine_restarts_total": self._supervisor.num_restarts,
        }.items():
            self._gauges[name].set(value)
        return generate_latest(self.registry)

    def meter(self, request: Request) -> "Meter":
        """Follow a request."""
        return Meter(self, request)

    def rejected(self, code: str) -> None:
        """Count a medium that was refused."""
        self.media_rejected.labels(code).inc()

    def decoded(self, kind: str, seconds: float) -> None:
        """Note how long the media of a request took to decode."""
        self.media_seconds.labels(kind).observe(seconds)

    @contextmanager
    def reading(self, kind: str) -> Iterator[None]:
        """Note how long an address takes to read."""
        began = time.monotonic()
        yield
        self.read_seconds.labels(kind).observe(time.monotonic() - began)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"onevision:{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        text = name.replace("_", " ")
        return Histogram(f"onevision:{name}", text, labels, buckets=buckets, registry=self.registry)


class Meter:
    """Measures one request."""

    def __init__(self, metrics: Metrics, request: Request) -> None:
        self._metrics, self._request = metrics, request
        self._last: float | None = None
        self._open, self._tokens = request.sampling.num_answers, 0

    def piece(self, piece: Piece) -> None:
        """Note a piece."""
        now, metrics = time.monotonic(), self._metrics
        if self._last is None:
            metrics.first.observe(now - self._request.arrived)
        elif piece.tokens:
            metrics.between.observe(now - self._last)
        self._last = now
        self._tokens += len(piece.tokens)
        if piece.finish_reason in ("stop", "length"):
            self._open -= 1
            metrics.success.labels(piece.finish_reason).inc()

    def end(self) -> None:
        """Note the end, whichever it was."""
        request, metrics, now = self._request, self._metrics, time.monotonic()
        metrics.prompt_tokens.inc(request.num_tokens)
        metrics.generation_tokens.inc(self._tokens)
        metrics.whole.observe(now - request.arrived)
        metrics.prompt_lengths.observe(request.num_tokens)
        metrics.answer_lengths.observe(self._tokens)
        if request.admitted is not None:
            metrics.queued.observe(request.admitted - request.arrived)
            if request.encode_seconds:
                metrics.encode.observe(request.encode_seconds)
            if request.answering is not None:
                metrics.prefill.observe(request.answering - request.admitted)
                metrics.decode.observe(now - request.answering)
        if self._open:
            (metrics.aborted if request.error is None else metrics.failed).inc()


GAUGES = {
    "num_requests_running": "Requests that are read or answered.",
    "num_requests_waiting": "Requests that wait.",
    "kv_cache_usage_perc": "Share of the memory for keys and values that is reserved, 0 to 1.",
    "prefix_cache_queries": "Prompts looked up among those read before.",
    "prefix_cache_hits": "Prompts of which a part was found.",
    "prefix_cache_tokens": "Tokens that were not read again.",
    "prefix_cache_bytes": "Memory of what was read and is remembered.",
    "encoder_cache_queries": "Media looked up among those encoded before.",
    "encoder_cache_hits": "Media that were found.",
    "decode_worker_restarts_total": "Decoding workers that died or were killed.",
    "engine_restarts_total": "Engines that broke down and were started again.",
}
