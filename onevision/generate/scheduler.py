"""Requests in, the set that runs out: who waits, who is admitted, who leaves.

A request is admitted when there is a place for it and KV cache memory for all it may come to need,
so a running request is never preempted. Memory that is not reserved is left to the prefix cache.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from onevision.batch import ModelInputs
from onevision.config import LanguageConfig
from onevision.errors import CapacityError, ContextLengthError, QueueFullError
from onevision.generate.option_types import check_ids
from onevision.generate.prefix_cache import PrefixCache
from onevision.generate.request import Request
from onevision.generate.sampler import Sampling
from onevision.generate.settings import EngineSettings
from onevision.plural import counted


class Scheduler:
    """Decides which requests run. `enqueue` and `num_waiting` may be called from any thread."""

    def __init__(self, settings: EngineSettings, prefix_cache: PrefixCache) -> None:
        self.max_running, self.max_waiting = settings.max_running, settings.max_waiting
        self.max_running_per_tenant = self.max_running
        self.max_waiting_per_tenant = self.max_waiting
        self.limit_tenants(
            running=settings.max_running_per_tenant, waiting=settings.max_waiting_per_tenant
        )
        self.kv_limit, self.kv_reserved = settings.kv_limit, 0  # bytes
        self.running: list[Request] = []
        self._waiting, self._prefix_cache = FairQueue(), prefix_cache
        self._queue_lock = threading.Lock()  # held for moments, never for a whole step

    @property
    def num_waiting(self) -> int:
        """Requests that are not admitted yet."""
        with self._queue_lock:
            return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether any request runs or waits."""
        return bool(self.running or self.num_waiting)

    def limit_tenants(self, *, running: int | None, waiting: int | None) -> None:
        """Sets how many requests of one tenant may run and wait; None is all."""
        self.max_running_per_tenant = self.max_running if running is None else running
        self.max_waiting_per_tenant = self.max_waiting if waiting is None else waiting

    def enqueue(self, request: Request) -> None:
        """Lets a request wait for admission. Raises QueueFullError."""
        with self._queue_lock:
            places = self.max_running - len(self.running)
            num_waiting, num_own = len(self._waiting), self._waiting.count(request.tenant)
            if num_waiting >= self.max_waiting + places:
                waiting = counted(num_waiting, "request")
                raise QueueFullError(f"the queue is full with {waiting}; try again later")
            if num_own >= self.max_waiting_per_tenant + places:
                waiting = counted(num_own, "request")
                raise QueueFullError(
                    f"the queue is full with {waiting} of this tenant; try again later"
                )
            self._waiting.put(request)

    def admit(self) -> None:
        """Starts waiting requests while there are places and memory for them."""
        while len(self.running) < self.max_running and (request := self._take_next()) is not None:
            request.admitted_at = time.monotonic()
            self.running.append(request)
            self.kv_reserved += request.kv_bytes
            self._shrink_prefix_cache()

    def evict(self, request: Request) -> None:
        """Takes a running request out and frees its memory."""
        self.running.remove(request)
        self.kv_reserved -= request.kv_bytes
        request.release_memory()
        self._shrink_prefix_cache()

    def find_overdue(self) -> list[Request]:
        """Returns the requests that were cancelled or are late; the waiting ones leave the queue.

        The running ones stay until they are evicted.
        """
        now = time.monotonic()

        def is_overdue(request: Request) -> bool:
            return request.cancelled or (request.deadline is not None and now > request.deadline)

        return [*filter(is_overdue, self.running), *self._remove_waiting(is_overdue)]

    def drain(self) -> list[Request]:
        """Takes out all requests, running and waiting."""
        requests = [*self.running, *self._remove_waiting(lambda _: True)]
        self.running.clear()
        return requests

    def _take_next(self) -> Request | None:
        """Takes the next request off the queue if there is memory for it."""
        with self._queue_lock:
            first = self._waiting.peek(self._may_run)
            if first is None or self.kv_reserved + first.kv_bytes > self.kv_limit:
                return None
            return self._waiting.take(first.tenant)

    def _may_run(self, request: Request) -> bool:
        """Whether a request's tenant may have another one run: of places and memory, a share."""
        own = [other.kv_bytes for other in self.running if other.tenant == request.tenant]
        most = self.kv_limit * self.max_running_per_tenant / self.max_running
        return not own or (
            len(own) < self.max_running_per_tenant and sum(own) + request.kv_bytes <= most
        )

    def _remove_waiting(self, unwanted: Callable[[Request], bool]) -> list[Request]:
        with self._queue_lock:
            return self._waiting.remove(unwanted)

    def _shrink_prefix_cache(self) -> None:
        self._prefix_cache.shrink(self.kv_limit - self.kv_reserved)


class FairQueue:
    """Waiting requests: tenants take turns, each first come, first served."""

    def __init__(self) -> None:
        self._tenants: dict[str, deque[Request]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def count(self, tenant: str) -> int:
        """Returns how many requests of a tenant wait."""
        return len(self._tenants.get(tenant, ()))

    def put(self, request: Request) -> None:
        """Appends a request to its tenant's queue."""
        self._tenants.setdefault(request.tenant, deque()).append(request)

    def peek(self, allowed: Callable[[Request], bool]) -> Request | None:
        """Returns the next of the tenants' first requests that is `allowed`; it stays here."""
        firsts = (own[0] for own in self._tenants.values())
        return next(filter(allowed, firsts), None)

    def take(self, tenant: str) -> Request:
        """Takes the next request of a tenant, who goes to the end of the line."""
        own = self._tenants.pop(tenant)
        request = own.popleft()
        if own:
            self._tenants[tenant] = own
        return request

    def remove(self, unwanted: Callable[[Request], bool]) -> list[Request]:
        """Removes and returns all requests that are `unwanted`."""
        removed: list[Request] = []
        for tenant, own in list(self._tenants.items()):
            removed += [request for request in own if unwanted(request)]
            kept = deque(request for request in own if not unwanted(request))
            if kept:
                self._tenants[tenant] = kept
            else:
                del self._tenants[tenant]
        return removed


def fit_sampling(prompt: ModelInputs, sampling: Sampling, config: LanguageConfig) -> Sampling:
    """Returns `sampling` with no more new tokens than the context has room for.

    Raises ContextLengthError if the prompt alone has no room, and InputError if a bias or an end id
    names a token that the vocabulary does not have.
    """
    dropped = sum(layout.num_dropped for layout in prompt.layouts)
    length, most = prompt.input_ids.shape[1] + dropped, config.max_positions - 1
    if length > most:
        raise ContextLengthError(
            f"the prompt has {length} tokens, dropped ones included; the model reads {most} at most"
        )
    check_ids(vars(sampling), num_ids=config.vocab_size)
    most = min(sampling.max_new_tokens, most + 1 - length)
    least = min(sampling.min_new_tokens, most)
    return replace(sampling, max_new_tokens=most, min_new_tokens=least)


def count_positions(prompt: ModelInputs, sampling: Sampling) -> int:
    """Returns the most positions that the prompt and one answer can fill."""
    return prompt.input_ids.shape[1] + sampling.max_new_tokens


def count_kv_bytes(
    prompt: ModelInputs, sampling: Sampling, *, position_bytes: int, limit: int
) -> int:
    """Returns the KV cache bytes of all answers. Raises CapacityError if above `limit`."""
    positions = count_positions(prompt, sampling)
    needed = sampling.num_answers * positions * position_bytes
    if needed > limit:
        raise CapacityError(
            f"the request needs {needed / 2**20:,.0f} MiB for the keys and values of "
            f"{sampling.num_answers} x {positions:,} tokens; the engine has "
            f"{limit / 2**20:,.0f} MiB: give fewer or smaller images or frames, or "
            "ask for fewer tokens or answers"
        )
    return needed
