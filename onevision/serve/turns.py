"""What keys share: places for work, amounts that are held, and the time of the event loop."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from onevision.serve.schema.problems import ApiError

# Of the loop's time, for all keys that keep it busy.
SHARE = 0.5
# Seconds of occupation that bring no delay, and the most that are held against a key.
BURST_SECONDS, MOST_SECONDS = 0.05, 1.0
# A key asks nothing any more if it has been silent for so long.
SILENT_SECONDS = 1.0


class Turns:
    """A number of places. The key that has used the least time takes the next; event loop only.

    A key that returns from idleness counts as having used as much as the least of the others, so
    that it has no claim for the time it was away.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.places_per_key = places
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._running: dict[str, int] = {}
        self._used: dict[str, float] = defaultdict(float)  # seconds

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Waits for a place, and holds it while the context is open."""
        await self._wait(key)
        began = time.monotonic()
        try:
            yield
        finally:
            self._used[key] += time.monotonic() - began
            self._leave(key)

    async def _wait(self, key: str) -> None:
        self._rejoin(key)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(place)
        self._give_places()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(key)
            elif place in self._waiting.get(key, ()):
                self._drop(key, place)
            raise

    def _rejoin(self, key: str) -> None:
        others = {*self._waiting, *self._running} - {key}
        if key not in self._waiting and key not in self._running and others:
            self._used[key] = max(self._used[key], min(self._used[other] for other in others))

    def _give_places(self) -> None:
        while sum(self._running.values()) < self.places:
            ready = [
                key for key in self._waiting if self._running.get(key, 0) < self.places_per_key
            ]
            if not ready:
                return
            key = min(ready, key=lambda one: self._used[one])
            place = self._waiting[key][0]
            self._drop(key, place)
            if not place.cancelled():
                self._running[key] = self._running.get(key, 0) + 1
                place.set_result(None)

    def _drop(self, key: str, place: asyncio.Future[None]) -> None:
        self._waiting[key].remove(place)
        if not self._waiting[key]:
            del self._waiting[key]

    def _leave(self, key: str) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._give_places()


class Share:
    """An amount that is held for requests: at most `most` in all, and `most_per_key` by a key."""

    def __init__(self, most: int, *, full: str) -> None:
        self.most, self.most_per_key = most, most
        self._full, self._held = full, defaultdict[str, int](int)

    @contextmanager
    def hold(self, key: str, amount: int = 1) -> Iterator[None]:
        """Holds an amount while the context is open. Raises ApiError (429) if there is no room."""
        self.add(key, amount)
        try:
            yield
        finally:
            self.remove(key, amount)

    def add(self, key: str, amount: int) -> None:
        """Holds an amount until it is removed. Raises ApiError (429) if there is no room."""
        own, every = self._held[key] + amount, sum(self._held.values()) + amount
        if own > self.most_per_key or every > self.most:
            whose = "of this key " if own > self.most_per_key and every <= self.most else ""
            raise ApiError(
                f"too many {self._full} {whose}already; try again later",
                status=429, code="queue_full", retry_after=2,
            )  # fmt: skip
        self._held[key] = own

    def remove(self, key: str, amount: int) -> None:
        """Gives an amount back."""
        self._held[key] -= amount
        if not self._held[key]:
            del self._held[key]


class LoopShares:
    """Delays keys that occupy the event loop beyond their part; event loop only.

    All connections share its thread. A key that keeps it busy with hundreds of small requests, or
    with bytes of large ones, would delay everyone's; so while several keys ask, each may occupy its
    part of SHARE of the time, after a burst that is free. A key that is alone is never delayed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}  # when a key was last heard
        # When a key would have used up what it has taken, at the pace of its part.
        self._level: dict[str, float] = {}
        self._lines: dict[str, asyncio.Lock] = {}

    def charge(self, key: str, seconds: float) -> None:
        """Notes that a key has occupied the loop."""
        now = self._clock()
        self._last[key] = now
        level = max(self._level.get(key, now), now) + seconds * self._count(now) / SHARE
        self._level[key] = min(level, now + MOST_SECONDS)

    async def wait(self, key: str) -> None:
        """Waits until it is a key's turn; its requests continue one after the other."""
        if self._delay(key) <= 0:
            return
        line = self._lines.setdefault(key, asyncio.Lock())
        async with line:
            while (delay := self._delay(key)) > 0:
                await asyncio.sleep(delay)

    def _delay(self, key: str) -> float:
        now = self._clock()
        if self._count(now) <= 1:
            return 0.0
        return self._level.get(key, now) - now - BURST_SECONDS

    def _count(self, now: float) -> int:
        """Returns how many keys ask, and forgets those that do not and owe nothing."""
        silent = [key for key, last in self._last.items() if now - last > SILENT_SECONDS]
        for key in silent:
            if key not in self._lines or not self._lines[key].locked():
                self._lines.pop(key, None)
                del self._last[key], self._level[key]
        return len(self._last)


class Timed:
    """Awaits a coroutine, and tells how long each of its steps occupies the loop."""

    def __init__(
        self, work: Coroutine[Any, Any, None], charge: Callable[[float], None]
    ) -> None:  # Any: what a coroutine of the framework passes to the loop
        self._work, self._charge = work, charge

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        advance: Callable[[], Any] | None = partial(next, steps)
        while True:
            assert advance is not None
            began = time.monotonic()
            try:
                awaited = advance()
            except StopIteration:
                return
            finally:
                advance = None  # an error that it holds knows this frame: else they were a circle
                self._charge(time.monotonic() - began)
            try:
                advance = partial(steps.send, (yield awaited))
            except BaseException as error:  # noqa: BLE001 passed on to where it belongs
                advance = partial(steps.throw, error)
