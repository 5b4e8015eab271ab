"""All figures of a server under attack and over time: load, memory, faults, bodies, waits.

    python -m benchmarks.attacked --output build/attacked.json             about 11 minutes, idle
    python -m benchmarks.attacked --load-seconds 300 --soak-minutes 30     the long form, 45 minutes

Runs what `make test-adversary` runs, then `benchmarks.soak`, one after the other. Prints their
tables and writes all values into one file. Other work on the machine changes all of them but the
counts: the file has the load average at the beginning and at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def attack(path: Path, *, attack_seconds: float, load_seconds: float) -> int:
    """Runs the attacks, which write their figures; returns pytest's exit status."""
    values = {
        "ONEVISION_FIGURES": str(path), "ONEVISION_ATTACK_SECONDS": str(attack_seconds),
        "ONEVISION_LOAD_SECONDS": str(load_seconds), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = ["pytest", "-q", "-s", "-m", "adversary", "--timeout=900", "tests/adversary"]
    return subprocess.run(
        [sys.executable, "-m", *words], env=os.environ | values, check=False
    ).returncode


def soak(path: Path, *, minutes: float) -> int:
    """Runs all kinds of requests, and fits what memory gains; returns the exit status."""
    words = ["benchmarks.soak", "--minutes", str(minutes), "--output", str(path)]
    return subprocess.run(
        [sys.executable, "-m", *words], stderr=subprocess.DEVNULL, check=False
    ).returncode


def main() -> None:
    """Takes all figures; exits with 1 if an attack succeeded or a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attack-seconds", type=float, default=4, help="for each median wait")
    parser.add_argument("--load-seconds", type=float, default=60)
    parser.add_argument("--soak-minutes", type=float, default=4, help="0: no soak")
    parser.add_argument("--output", type=Path, default=Path("build/attacked.json"))
    options = parser.parse_args()
    began, failed, found = time.monotonic(), list[str](), {}
    with tempfile.TemporaryDirectory() as directory:
        attacks, memory = Path(directory) / "attacks.json", Path(directory) / "soak.json"
        if attack(
            attacks, attack_seconds=options.attack_seconds, load_seconds=options.load_seconds
        ):
            failed.append("attacks")
        found |= json.loads(attacks.read_text()) if attacks.exists() else {}
        if options.soak_minutes and soak(memory, minutes=options.soak_minutes):
            failed.append("soak")
        found |= {"soak": json.loads(memory.read_text())} if memory.exists() else {}
    found |= {"failed": failed, "seconds": round(time.monotonic() - began)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{options.output}: all figures, {found['seconds']} s; failed: {failed or 'nothing'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
