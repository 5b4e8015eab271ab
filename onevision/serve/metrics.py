"""What a server does -> Prometheus metrics, named as vLLM's so that dashboards carry over."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from onevision.generate.request import AnswerDelta, Request
from onevision.inputs.sandbox import Sandbox
from onevision.serve.engines import Engines

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class Metrics:
    """Counters, gauges and histograms; label values come from fixed sets, never from requests."""

    def __init__(self, engines: Engines, sandbox: Sandbox) -> None:
        self.registry = CollectorRegistry()
        self._engines, self._sandbox = engines, sandbox
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens.")
        self.generation_tokens = self._counter("generation_tokens", "Generated tokens.")
        self.success = self._counter("request_success", "Complete answers.", "finished_reason")
        self.aborted = self._counter("requests_aborted", "Requests whose clients disconnected.")
        self.failed = self._counter("requests_failed", "Requests that failed.")
        self.ignored_fields = self._counter("ignored_fields", "Fields of requests without effect.")
        self.media_rejected = self._counter("media_rejected", "Media that were refused.", "code")
        self.http = self._counter("http_requests", "HTTP responses.", "handler", "method", "status")
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
        """Returns all metrics in the text format of Prometheus."""
        stats = self._engines.stats
        for name, value in {
            "num_requests_running": stats.running,
            "num_requests_waiting": stats.waiting,
            "kv_cache_usage_perc": stats.kv_bytes / stats.kv_limit if stats.kv_limit else 0,
            "prefix_cache_queries": stats.prefix_hits + stats.prefix_misses,
            "prefix_cache_hits": stats.prefix_hits,
            "prefix_cache_tokens": stats.prefix_tokens,
            "prefix_cache_bytes": stats.prefix_bytes,
            "encoder_cache_queries": stats.encoder_hits + stats.encoder_misses,
            "encoder_cache_hits": stats.encoder_hits,
            "draft_tokens": stats.drafted_tokens,
            "draft_tokens_accepted": stats.accepted_tokens,
            "graphed_steps": stats.graphed_steps,
            "decode_worker_restarts_total": self._sandbox.num_restarts,
            "engine_restarts_total": self._engines.num_restarts,
        }.items():
            self._gauges[name].set(value)
        return generate_latest(self.registry)

    def meter(self, request: Request) -> "RequestMeter":
        """Returns a meter for a request."""
        return RequestMeter(self, request)

    def count_rejected_media(self, code: str) -> None:
        """Counts a medium that was refused."""
        self.media_rejected.labels(code).inc()

    def observe_decoding(self, kind: str, seconds: float) -> None:
        """Records how long the media of a request took to decode."""
        self.media_seconds.labels(kind).observe(seconds)

    @contextmanager
    def time_reading(self, kind: str) -> Iterator[None]:
        """Records how long the URLs of a medium take to read."""
        began = time.monotonic()
        yield
        self.read_seconds.labels(kind).observe(time.monotonic() - began)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"onevision:{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        text = name.replace("_", " ")
        return Histogram(f"onevision:{name}", text, labels, buckets=buckets, registry=self.registry)


class RequestMeter:
    """Measures one request: its latencies, tokens and outcome."""

    def __init__(self, metrics: Metrics, request: Request) -> None:
        self._metrics, self._request = metrics, request
        self._last: float | None = None
        self._open, self._tokens = request.sampling.num_answers, 0

    def observe(self, delta: AnswerDelta) -> None:
        """Records a delta; one that only says that a request failed holds nothing to measure."""
        if delta.finish_reason in ("error", "cancelled"):
            return
        now, metrics = time.monotonic(), self._metrics
        if self._last is None:
            metrics.prompt_tokens.inc(self._request.num_tokens)
            metrics.first.observe(now - self._request.arrived_at)
        elif delta.tokens:
            metrics.between.observe(now - self._last)
        self._last = now
        self._tokens += len(delta.tokens)
        metrics.generation_tokens.inc(len(delta.tokens))
        if delta.finish_reason in ("stop", "length"):
            self._open -= 1
            metrics.success.labels(delta.finish_reason).inc()

    def end(self) -> None:
        """Records the end of the request, however it ended."""
        request, metrics, now = self._request, self._metrics, time.monotonic()
        metrics.whole.observe(now - request.arrived_at)
        metrics.prompt_lengths.observe(request.num_tokens)
        metrics.answer_lengths.observe(self._tokens)
        if request.admitted_at is not None:
            metrics.queued.observe(request.admitted_at - request.arrived_at)
            if request.encode_seconds:
                metrics.encode.observe(request.encode_seconds)
            if request.decoding_since is not None:
                metrics.prefill.observe(request.decoding_since - request.admitted_at)
                metrics.decode.observe(now - request.decoding_since)
        if self._open:
            (metrics.aborted if request.error is None else metrics.failed).inc()


GAUGES = {
    "num_requests_running": "Requests that run.",
    "num_requests_waiting": "Requests that wait.",
    "kv_cache_usage_perc": "Share of the KV cache memory that is reserved, 0 to 1.",
    "prefix_cache_queries": "Prompts looked up in the prefix cache.",
    "prefix_cache_hits": "Prompts that shared a cached prefix.",
    "prefix_cache_tokens": "Prompt tokens taken from the prefix cache.",
    "prefix_cache_bytes": "Memory of cached prefixes.",
    "encoder_cache_queries": "Media looked up in the vision cache.",
    "encoder_cache_hits": "Media found in it.",
    "draft_tokens": "Tokens that were guessed before the model was asked.",
    "draft_tokens_accepted": "Of those, the ones that the model generated itself.",
    "graphed_steps": "Decoding passes in the fixed shapes of CUDA graphs.",
    "decode_worker_restarts_total": "Media decoding workers that died or were killed.",
    "engine_restarts_total": "Engines that failed and were restarted.",
}
