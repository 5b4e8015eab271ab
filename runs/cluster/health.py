"""Checks what a node needs before it joins a run, beyond `onevision doctor`.

    python runs/cluster/health.py OUTPUT --gpus 8 --head node-0 --weights DIR DIR

GPUs: their number, that each multiplies correctly, that its memory is free. The run's directory:
that it can be written to, and how much room it has. The head: that its name resolves. Weights: that
they are here. The network between nodes and the data are not checked. Exits with 1 if one fails.
"""

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch

# Another process on a GPU that holds more leaves too little for a plan that fills 92 % of it.
LEAST_FREE = 0.92
SIDE = 1024  # of the matrices that are multiplied


def check_gpus(expected: int) -> str:
    """Multiplies small integers on each GPU, whose products are exact in bf16 and fp32 sums."""
    found = torch.cuda.device_count()
    if found < expected:
        raise ValueError(f"{found} GPUs are here, {expected} are expected; check the driver")
    least = 1.0
    for index in range(expected):
        ones = torch.ones(SIDE, SIDE, dtype=torch.bfloat16, device=f"cuda:{index}")
        if not bool((ones @ ones == SIDE).all()):
            raise ValueError(f"cuda:{index} multiplies wrongly; take the node out of service")
        free, total = torch.cuda.mem_get_info(index)
        if free < LEAST_FREE * total:
            raise ValueError(
                f"cuda:{index} has {free / total:.0%} of its memory free; end what uses it"
            )
        least = min(least, free / total)
    return (
        f"{expected} multiply correctly, {least:.0%} of their memory free or more"
        if expected
        else "none needed"
    )


def check_directory(output: Path) -> str:
    """Writes a file into the run's directory, and deletes it again."""
    output.mkdir(parents=True, exist_ok=True)
    probe = output / f".written-by-{socket.gethostname()}-{os.getpid()}"
    probe.write_bytes(b"1")
    probe.unlink()
    return f"{output} can be written to; {shutil.disk_usage(output).free / 2**30:,.0f} GiB free"


def check_head(head: str) -> str:
    """Resolves the name of the node where the others meet."""
    return f"{head} is {socket.getaddrinfo(head, None)[0][4][0]}"


def check_weights(places: list[str]) -> str:
    """Looks for directories; a hub id is loaded, or refused, by the run."""
    given = [place for place in places if place]
    for place in given:
        if place.startswith(("/", ".")) and not Path(place).is_dir():
            raise ValueError(f"{place} is no directory on this node; is the shared disk mounted?")
    return ", ".join(given) or "none named"


def main() -> None:
    """Makes every check, and names each that fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--head", default="localhost")
    parser.add_argument("--weights", nargs="*", default=[])
    given = parser.parse_args()
    checks: dict[str, Callable[[], str]] = {
        "GPUs": lambda: check_gpus(given.gpus),
        "directory": lambda: check_directory(given.output),
        "head": lambda: check_head(given.head),
        "weights": lambda: check_weights(given.weights),
    }
    failed = False
    for name, check in checks.items():
        try:
            print(f"{name:<12} {check()}", flush=True)
        except (OSError, ValueError, RuntimeError) as error:
            failed = True
            print(
                f"error: {socket.gethostname()}: {name}: {error}".partition("\n")[0],
                file=sys.stderr,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
