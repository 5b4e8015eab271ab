"""Keys share the time of the event loop: one that keeps it busy waits, and the others do not."""

import asyncio
import time
from itertools import pairwise

import pytest

from onevision.serve.turns import BURST_SECONDS, MOST_SECONDS, SHARE, LoopShares, Timed


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def delay_of(shares, key):
    """Returns how long a key would have to wait now."""
    return max(0.0, shares._delay(key))


def test_a_key_that_is_alone_occupies_the_loop_as_it_likes():
    shares = LoopShares(Clock())
    for _ in range(100):
        shares.charge("a", 0.1)
    assert delay_of(shares, "a") == 0


def test_a_key_that_occupies_the_loop_waits_and_another_does_not():
    clock = Clock()
    shares = LoopShares(clock)
    shares.charge("b", 0.001)
    shares.charge("a", 0.1)
    assert delay_of(shares, "b") == 0
    assert delay_of(shares, "a") == pytest.approx(0.1 * 2 / SHARE - BURST_SECONDS)
    clock.now += 0.1 * 2 / SHARE
    assert delay_of(shares, "a") == 0


def test_a_key_owes_a_second_at_most_and_nothing_once_the_others_are_silent():
    clock = Clock()
    shares = LoopShares(clock)
    shares.charge("b", 0.001)
    shares.charge("a", 600)
    assert delay_of(shares, "a") == pytest.approx(MOST_SECONDS - BURST_SECONDS)
    clock.now += 2 * MOST_SECONDS
    shares.charge("a", 0.5)
    assert delay_of(shares, "a") == 0
    assert list(shares._last) == list(shares._level) == ["a"]


@pytest.mark.parametrize("num_keys", [2, 3, 5])
def test_keys_that_keep_the_loop_busy_have_equal_parts(num_keys):
    clock = Clock()
    shares, used = LoopShares(clock), dict.fromkeys(range(num_keys), 0.0)
    while clock.now < 100:
        for key in used:
            if not delay_of(shares, key):
                shares.charge(key, 0.002)
                used[key] += 0.002
                clock.now += 0.002
        clock.now += 0.001
    assert max(used.values()) < 1.2 * min(used.values())
    assert sum(used.values()) < 1.1 * SHARE * clock.now


def test_requests_of_a_key_that_waits_go_on_one_after_the_other():
    async def run():
        shares, order = LoopShares(), []
        shares.charge("b", 0.001)
        shares.charge("a", 0.05)

        async def go(name):
            await shares.wait("a")
            order.append((name, time.monotonic()))
            shares.charge("a", 0.01)
            shares.charge("b", 0.0)

        await asyncio.gather(*map(go, "xyz"))
        return order

    order = asyncio.run(run())
    assert [name for name, _ in order] == ["x", "y", "z"]
    pauses = [after - before for (_, before), (_, after) in pairwise(order)]
    assert min(pauses) > 0.5 * 0.01 * 2 / SHARE


def test_each_step_of_a_coroutine_is_timed_and_errors_reach_it():
    async def work(told):
        told.append("begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            time.sleep(0.02)
            told.append("cancelled")
            raise

    async def run():
        told, seconds = [], []

        async def timed():
            await Timed(work(told), seconds.append)

        task = asyncio.ensure_future(timed())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return told, seconds

    told, seconds = asyncio.run(run())
    assert told == ["begun", "cancelled"]
    assert len(seconds) == 2
    assert seconds[1] > 0.015
