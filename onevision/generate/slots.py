"""KV caches of answers -> which slot of a static cache each one has in a step, in plain Python.

Of several devices the first one alone plans: what frees a slot may happen at any moment, a garbage
collection too, so the others are told and find out nothing by themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from onevision.generate.kv_cache import KVCache

# Fewest positions of a step.
MIN_POSITIONS = 256
# A KV cache, or the number of one.
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True, kw_only=True)
class SlotStep(Generic[C]):
    """One answer's part of a step."""

    cache: C
    slot: int
    length: int  # filled positions of the cache before the step
    is_stale: bool  # the slot lacks some of them: they are copied there first
    token_id: int  # the answer's last,
    position: int  # at this rotary position


@dataclass(frozen=True, kw_only=True)
class StaticStep(Generic[C]):
    """One token for each of several answers, and what must be copied before."""

    size: tuple[int, int]  # rows and positions of the static cache
    leaving: list[C]  # lose their slots: what was written there is copied back
    answers: list[SlotStep[C]]

    @property
    def rows(self) -> int:
        """Slots that the step computes, from the first on."""
        return _power_of_two(max(answer.slot for answer in self.answers) + 1)

    @property
    def positions(self) -> int:
        """Positions of each slot that the step reads."""
        longest = max(answer.length for answer in self.answers) + 1
        return min(_power_of_two(longest, least=MIN_POSITIONS), self.size[1])

    @property
    def inputs(self) -> list[tuple[int, int, int]]:
        """By row a token id, its place in the cache and its rotary position; 0 in free slots."""
        inputs = [(0, 0, 0)] * self.rows
        for answer in self.answers:
            inputs[answer.slot] = answer.token_id, answer.length, answer.position
        return inputs

    def with_caches(self, find: Callable[[C], D]) -> "StaticStep[D]":
        """Returns the same step with `find(cache)` for every cache."""
        return StaticStep(
            size=self.size,
            leaving=[find(cache) for cache in self.leaving],
            answers=[
                SlotStep(
                    cache=find(one.cache),
                    slot=one.slot,
                    length=one.length,
                    is_stale=one.is_stale,
                    token_id=one.token_id,
                    position=one.position,
                )
                for one in self.answers
            ],
        )


class SlotPlanner:
    """Keeps track of who has which slot of a static cache of up to `max_bytes`."""

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size: tuple[int, int] | None = None  # rows and positions; None before there is one
        self._slots: WeakKeyDictionary[KVCache, int] = WeakKeyDictionary()
        self._lengths: dict[int, int] = {}  # slot -> positions of its KV cache that it has

    def fits(self, caches: Sequence[KVCache]) -> bool:
        """Whether the static cache can hold answers with these KV caches."""
        return self._num_bytes(self._choose_size(caches), caches) <= self.max_bytes

    def plan(
        self, caches: Sequence[KVCache], ids: Sequence[int], *, positions: Sequence[int]
    ) -> StaticStep[KVCache]:
        """Gives every cache a slot and frees all others; `finish` tells that the step was taken."""
        size, staying = self._choose_size(caches), set(caches)
        if size != self.size:
            self.size, staying = None, set[KVCache]()  # all slots are new
        leaving = [cache for cache in list(self._slots) if cache not in staying]
        for cache in leaving:
            del self._slots[cache]
        free = sorted(set(range(size[0])) - set(self._slots.values()), reverse=True)
        for cache in caches:
            if cache not in self._slots:
                self._slots[cache] = free.pop()
                self._lengths[self._slots[cache]] = 0
        return StaticStep(
            size=size,
            leaving=leaving,
            answers=[
                self._plan_one(cache, token_id, position)
                for cache, token_id, position in zip(caches, ids, positions, strict=True)
            ],
        )

    def finish(self, step: StaticStep[KVCache]) -> None:
        """Notes that a planned step was taken. If not, the next one copies again what it needs."""
        self.size = step.size
        for answer in step.answers:
            self._lengths[answer.slot] = answer.cache.length

    def _plan_one(self, cache: KVCache, token_id: int, position: int) -> SlotStep[KVCache]:
        slot = self._slots[cache]
        return SlotStep(
            cache=cache,
            slot=slot,
            length=cache.length,
            # New, or an ordinary step came in between.
            is_stale=self._lengths[slot] != cache.length,
            token_id=token_id,
            position=position,
        )

    def _choose_size(self, caches: Sequence[KVCache]) -> tuple[int, int]:
        """Returns rows and positions for these caches, never smaller than now if memory allows."""
        most = max(cache.capacity for cache in caches)
        needed = _power_of_two(len(caches)), _power_of_two(most, least=MIN_POSITIONS)
        if self.size is None:
            return needed
        both = max(needed[0], self.size[0]), max(needed[1], self.size[1])
        return both if self._num_bytes(both, caches) <= self.max_bytes else needed

    def _num_bytes(self, size: tuple[int, int], caches: Sequence[KVCache]) -> int:
        return size[0] * size[1] * caches[0].num_bytes // caches[0].capacity


def _power_of_two(number: int, *, least: int = 1) -> int:
    return max(least, 1 << (number - 1).bit_length())
