"""Threads that products are divided among: given back, or never started."""

import os
import subprocess
import sys

import pytest

# Counts the threads of this process, of which products are divided among two or more.
COUNT = """
import os, threading, time
import torch
from onevision.accelerate.pools import compute_alone, release_pool
def count(wanted=None):  # of threads; one that has ended may stay for a moment
    end = time.monotonic() + 30
    while (found := len(os.listdir("/proc/self/task"))) != wanted:
        if wanted is None or time.monotonic() > end: break
        time.sleep(0.01)
    return found
def compute(): torch.ones(2048, 2048) @ torch.ones(2048, 2048)
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", COUNT + script], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is Linux's"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has no pools"),
]


def test_a_pool_is_given_back_and_made_anew():
    alone, computing, released, again = run(
        "alone = count(); print(alone); compute(); print(count())\n"
        "release_pool(); print(count(alone)); compute(); print(count())"
    )
    assert computing == again > alone == released


def test_a_thread_that_computes_alone_has_no_pool_and_others_keep_theirs():
    before, during, after = run(
        "compute(); before = count(); print(before)\n"
        "def work(): compute_alone(); compute(); print(count() - 1)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "compute(); print(count(before))"
    )
    assert before == during == after


def test_loading_leaves_no_pool():
    assert run(
        "from onevision import load\n"
        "before = count(); load('tiny'); print(count(before) - before)\n"
        "from onevision.accelerate.threads import choose_threads\n"
        "del os.environ['OMP_NUM_THREADS']; choose_threads(); print(count(before) - before)"
    ) == [0, 0]


def test_threads_that_prepare_requests_compute_alone():
    assert run(
        "from onevision.serve.service import Stage\n"
        "def work(): before = count(); compute(); return count() - before\n"
        "print(Stage('parse', 2).threads.submit(work).result())"
    ) == [0]


def test_an_engine_without_work_has_no_pool():
    """Its thread waits for requests, and other engines may compute."""
    before, working, idle = run(
        "from onevision import load\n"
        "from onevision.serve.supervisor import EngineThread\n"
        "engine, counts = load('tiny').new_engine(), []\n"
        "def step():\n"
        "    compute(); counts.append(count()); return len(counts) < 3\n"
        "engine.step = step; before = count(); print(before); thread = EngineThread(engine)\n"
        "while not counts[2:]: time.sleep(0.01)\n"
        "print(max(counts)); print(count(before + 1)); thread.stop()"
    )
    assert working > idle == before + 1
