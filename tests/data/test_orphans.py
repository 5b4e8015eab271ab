"""No worker outlives a process that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

POOL = """
import multiprocessing as mp, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from onevision.data.workers import exit_with_parent, process_context

def tell(number):
    time.sleep(0.2)  # so that both workers get a task
    return os.getpid()

if __name__ == "__main__":
    context = mp.get_context("spawn") if sys.argv[1] == "spawn" else process_context()
    with ProcessPoolExecutor(2, mp_context=context, initializer=exit_with_parent) as pool:
        print(*set(pool.map(tell, range(8))), flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("method", ["spawn", "ours"])
def test_workers_of_a_pool_end_with_a_killed_parent(tmp_path, method):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, script, method], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert workers
        assert all(map(is_running, workers))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
