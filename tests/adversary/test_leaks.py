"""What a request leaves behind: nothing, whatever its kind and however it ends.

`python -m benchmarks.soak` is the long form, which also sees memory outside Python.
"""

import asyncio
import time
from itertools import pairwise

import pytest

from benchmarks.soak import KINDS, Load, serving

pytestmark = pytest.mark.adversary

# Requests of each kind in a round. What is kept of each is seen in every round; what threads,
# timers and the moment bring is not.
EACH, ROUNDS = 4, 4
# Per request. A request that is kept has several times as many.
FEW_BYTES = 500


@pytest.fixture(scope="module")
def inspected():
    """A server that tells of itself, and caches no visual tokens."""
    with serving("--limit", "encoder_bytes=1") as server:
        yield server


@pytest.fixture(scope="module")
def looks(inspected):
    """What the server holds before and after each round of requests of all kinds."""
    inspected.tell("trace")
    ask(inspected, ["words", "stream"] * 20, clients=12)  # as many threads as there will be
    ask(inspected, [*KINDS] * 2)
    look(inspected)
    found = [look(inspected)]
    for _ in range(ROUNDS):
        ask(inspected, [*KINDS] * EACH)
        found.append(look(inspected))
    return found


def ask(server, kinds, *, clients=4):
    """Asks for one thing of each of the kinds; the server may fail at none."""
    load = Load(server.url, kinds, clients=clients)
    asyncio.run(load.run_each())
    assert {status.split()[-1] for status in load.statuses} <= {"200", "400", "404"}


def look(server):
    """Returns the number of objects by type, the bytes that Python has, and what may fill.

    Prefixes are no part of it: how many fit in the cache changes with their lengths.
    """
    deadline = time.monotonic() + 60
    while (entries := server.tell("forget"))["held"] or entries["prefixes"]:
        assert time.monotonic() < deadline, entries
        time.sleep(0.1)
    counts = server.tell("objects")["counts"]
    return counts, server.tell("traced")["bytes"], server.tell("memory")


def test_no_request_leaves_an_object(looks):
    kinds = {name for counts, _, _ in looks for name in counts}
    gains = {
        name: min(after.get(name, 0) - before.get(name, 0) for (before, *_), (after, *_) in
                  pairwise(looks))
        for name in kinds
    }  # fmt: skip
    assert not {name: gain for name, gain in gains.items() if gain >= EACH}


def test_no_request_leaves_bytes(looks):
    gains = [after - before for (_, before, _), (_, after, _) in pairwise(looks)]
    assert min(gains) < FEW_BYTES * EACH * len(KINDS), gains


def test_no_request_leaves_a_descriptor_a_thread_or_a_label(looks):
    before, after = looks[0][2], looks[-1][2]
    for name in ("metric_lines", "keys"):
        assert after[name] == before[name]
    for name in ("descriptors", "threads"):  # a decoder's pipe, and asyncio's threads
        assert after[name] <= before[name] + 3
    assert after["held"] == 0
