"""How many threads a CPU should compute with: as many as are measured to be fastest, now.

Torch takes one thread per core. Its threads wait for each other at the end of every product, so
beside other work two of them may be many times slower than one.
"""

import os
import time

import torch

from onevision.accelerate.pools import release_pool

# What a user sets to say the number.
VARIABLE = "OMP_NUM_THREADS"
# What is measured: small products, as decoding and short samples have, for so long in all.
WIDTH, ROWS = 512, 64
SECONDS = 0.16
# More threads must be faster by so much to be taken.
GAIN = 1.1


def choose_threads() -> int:
    """Sets torch's threads to the fastest number, unless the user has set it; returns it."""
    most = torch.get_num_threads()
    if VARIABLE in os.environ or most == 1:
        return most
    counts = list_counts(most)
    best, best_speed = 0, 0.0
    for count in counts:
        speed = measure_speed(count, seconds=SECONDS / len(counts))
        if speed > GAIN * best_speed:
            best, best_speed = count, speed
    torch.set_num_threads(best)
    release_pool()
    return best


def list_counts(most: int) -> list[int]:
    """Returns the numbers of threads that are tried: 1, 2, 4, ... and `most`."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})


def measure_speed(num_threads: int, *, seconds: float) -> float:
    """Returns products per second with so many threads, measured for so long."""
    torch.set_num_threads(num_threads)
    x, weight = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, 4 * WIDTH)
    x @ weight  # the first one starts the threads
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        (x @ weight).relu_()
        done += 1
    return done / (time.perf_counter() - began)
