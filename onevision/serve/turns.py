"""Turns: places for work that keys take in turns, by the time that each has used."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from onevision.serve.schema.problems import ApiError


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
