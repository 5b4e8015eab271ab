"""The threads that products are divided among, where several Python threads compute.

With GNU OpenMP, which torch has on Linux, every thread that computes has a pool of its own. Threads
of a pool wait for the next product awake, for microseconds, unless all pools together have more
threads than there are cores: then they sleep, and waking them takes as long as a small product. So
a thread that no longer computes gives its pool back, and threads beside the engine compute alone.
Elsewhere (Windows, macOS) nothing is done.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch

LIBRARY, MAPS = "libgomp", Path("/proc/self/maps")
# omp_pause_hard: the pool of the calling thread is freed; its next product starts another.
PAUSE_HARD = 2


def release_pool() -> None:
    """Ends the threads that wait for products of the calling thread."""
    if (library := _find_library()) is not None:
        library.omp_pause_resource_all(PAUSE_HARD)


def compute_alone() -> None:
    """Lets the calling thread compute by itself from now on; others stay as they are."""
    if (library := _find_library()) is not None:
        torch.get_num_threads()  # torch sets the number at the first question
        library.omp_set_num_threads(1)


@cache
def _find_library() -> ctypes.CDLL | None:
    """Returns torch's OpenMP, if it is GNU's and knows how to give threads back."""
    try:
        lines = MAPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    files = [line.split(maxsplit=5) for line in lines if LIBRARY in line.rpartition("/")[2]]
    paths = {parts[-1] for parts in files}
    if len(paths) != 1:  # none, or two, of which torch's cannot be told
        return None
    try:
        library = ctypes.CDLL(paths.pop())
    except OSError:  # replaced on the disk since it was loaded
        return None
    return library if hasattr(library, "omp_pause_resource_all") else None
