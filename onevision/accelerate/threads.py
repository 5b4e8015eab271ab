"""How many threads a CPU should compute with: as many as are measured to be fastest, now.

Torch takes one thread per core. Its threads wait for each other at the end of every product, so
beside other work two of them may be many times slower than one.
"""

import os
import time

import torch

# What a user sets to say the number.
VARIABLE = "OMP_NUM_THREADS"
# A measurement: small products, as decoding and short samples have, for at least so long.
WIDTH, ROWS = 512, 64
SECONDS = 0.08
# More threads must be faster by so much to be taken.
GAIN = 1.1


def choose_threads() -> int:
    """Sets torch's threads to the fastest number, unless the user has set it; returns it."""
    most = torch.get_num_threads()
    if VARIABLE in os.environ or most == 1:
        return most
    best, best_speed = 1, measure_speed(1)
    count = 2
    while count <= most:
        speed = measure_speed(count)
        if speed > GAIN * best_speed:
            best, best_speed = count, speed
        count = count * 2 if count * 2 <= most or count == most else most
    torch.set_num_threads(best)
    return best


def measure_speed(num_threads: int) -> float:
    """Returns products per second with so many threads."""
    torch.set_num_threads(num_threads)
    x, weight = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, 4 * WIDTH)
    x @ weight  # the first one starts the threads
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        (x @ weight).relu_()
        done += 1
    return done / (time.perf_counter() - began)
