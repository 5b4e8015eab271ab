"""Memory that a server no longer needs goes back to the system; old objects are not searched."""

import asyncio
import ctypes
import os
import time

import pytest

from benchmarks.soak import MIB, Load, serving
from onevision.serve.heap import HeapTrimmer
from tests.serve.memory import resident

KINDS = ("words", "picture", "video", "stream", "abandoned picture", "answers", "response",
         "wrong picture", "wrong field")  # fmt: skip
EACH = 4
# What holds pixels or a body. A circle of such objects lives until Python looks for garbage, which
# it does by the number of new objects, not by their size.
LARGE = ("torch.Tensor", "numpy.ndarray", "builtins.frame", "builtins.traceback",
         "onevision.generate.request.Request")  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """A server that tells of itself, and collects no garbage by itself."""
    with serving("--limit", "encoder_bytes=1") as inspected:
        ask(inspected, KINDS)
        inspected.tell("garbage")
        yield inspected


def ask(server, kinds):
    """Asks for one thing of each kind, and waits until no request holds anything."""
    load = Load(server.url, kinds, clients=2)
    asyncio.run(load.run_each())
    assert {status.split()[-1] for status in load.statuses} <= {"200", "400"}
    deadline = time.monotonic() + 60
    while (entries := server.tell("forget"))["held"] or entries["prefixes"]:
        assert time.monotonic() < deadline, entries
        time.sleep(0.05)


def test_what_torch_brings_is_not_searched_for_garbage(server):
    assert server.tell("memory")["frozen_objects"] > 100_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_request_holds_is_freed_at_its_end(server, kind):
    ask(server, [kind] * EACH)
    counts = server.tell("garbage")["counts"]
    assert not {name: counts[name] for name in LARGE if counts.get(name, 0) >= EACH}
    assert sum(counts.values()) < 12 * EACH, counts


def test_free_memory_between_blocks_that_live_goes_back_to_the_system():
    """Of 1,600 blocks of 60 KB every tenth lives, so that the heap cannot become shorter."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks = [ctypes.c_void_p(libc.malloc(60_000)) for _ in range(1600)]
    for block in blocks:
        ctypes.memset(block, 1, 60_000)
    living, freed = blocks[::10], [b for i, b in enumerate(blocks) if i % 10]
    for block in freed:
        libc.free(block)
    before = resident(os.getpid())
    trimmer = HeapTrimmer(seconds=0.05)
    trimmer.start()
    try:
        deadline = time.monotonic() + 20
        while resident(os.getpid()) > before - 40 * MIB:
            assert time.monotonic() < deadline, "nothing was given back"
            time.sleep(0.05)
    finally:
        trimmer.stop()
    assert all(ctypes.cast(block, ctypes.POINTER(ctypes.c_ubyte))[0] == 1 for block in living)
    for block in living:
        libc.free(block)
