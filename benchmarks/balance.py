"""Measures `onevision curate balance` on a synthetic file of captions: time and peak memory.

    python -m benchmarks.balance --count 3300000

Words follow Zipf's law, as in CC3M; a caption has four noun phrases.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NUM_NOUNS, NUM_ADJECTIVES = 50_000, 2_000
CHUNK = 10_000


def write_captions(path: Path, count: int) -> None:
    """Writes captions such as "a dog with a red hat near an owl and a lamp"."""
    rng = np.random.default_rng(0)
    nouns = [f"n{_letters(n)}" for n in range(NUM_NOUNS)]
    adjectives = [f"a{_letters(n)}" for n in range(NUM_ADJECTIVES)]
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, count, CHUNK):
            size = (min(CHUNK, count - begin), 4)
            things = (rng.zipf(1.2, size) - 1) % NUM_NOUNS
            kinds = (rng.zipf(1.3, size) - 1) % NUM_ADJECTIVES
            for number, (words, own) in enumerate(
                zip(things.tolist(), kinds.tolist(), strict=True)
            ):
                a, b, c, d = (
                    f"a {adjectives[k]} {nouns[w]}" for w, k in zip(words, own, strict=True)
                )
                line = {
                    "image": f"{begin + number}.jpg",
                    "caption": f"{a} with {b} near {c} and {d}",
                }
                file.write(json.dumps(line) + "\n")


def _letters(number: int) -> str:
    text = ""
    while number or not text:
        number, rest = divmod(number, 20)
        text += "bcdfghjklmnpqrtvwxzo"[rest]
    return text


def main() -> None:
    """Writes the file, balances it in a process of its own, and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3_300_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as place:
        captions, kept = Path(place) / "captions.jsonl", Path(place) / "kept.jsonl"
        write_captions(captions, arguments.count)
        begin = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "onevision", "curate", "balance", captions, "-o", kept],
            check=True,
        )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{arguments.count:,} captions: {used.ru_utime + used.ru_stime:.0f} s of CPU time, "
            f"{time.monotonic() - begin:.0f} s, {used.ru_maxrss / 1024:.0f} MiB at most"
        )


if __name__ == "__main__":
    main()
