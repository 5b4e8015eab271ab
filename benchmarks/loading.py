"""How long until a file gives its first answer, in a fresh process, and what takes it?

    python -m benchmarks.loading                  a W8A8 file of the 0.5B shape, one thread
    python -m benchmarks.loading --plain          the same in bfloat16; with --quantize int8 too
    python -m benchmarks.loading --file OUT       another checkpoint

Writes a file of random weights, rounded plainly, without calibration. Then a process of its own
loads it and answers a short question with one token: `first load` with an empty cache of this
package, in which every kernel is tested in full, and `--rounds` times after that. Each part's
seconds are the median, of the clock and of the processor, which a busy machine does not change
much; checksums are compared by a thread beside the other parts, so the processor's seconds of these
contain its own. The file is in the system's cache after the first load. The peak of resident memory
contains pages of the file. Writes benchmarks/results/loading.json, or a name of --result.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write_file(place: Path, *, plain: bool) -> None:
    """Write random weights of the 0.5B shape as `onevision quantize` would, uncalibrated."""
    import torch
    from torch import nn

    from onevision.checkpoint.hub import resolve
    from onevision.checkpoint.load import inspect, load_tokenizer
    from onevision.checkpoint.save import save
    from onevision.checkpoint.write_quantised import save_quantised
    from onevision.known_models import ONEVISION_0_5B
    from onevision.model.llava import LlavaNetwork
    from onevision.quantization.rounding import SCHEMES, round_weight

    torch.manual_seed(0)
    network = LlavaNetwork(ONEVISION_0_5B).to(torch.bfloat16)
    tokenizer = load_tokenizer(inspect(resolve("tiny")))
    if plain:
        save(network, ONEVISION_0_5B, tokenizer, place)
        return
    scheme = SCHEMES["w8a8"]
    weights = {
        name: round_weight(part.weight.detach().float(), scheme)
        for name, part in network.named_modules()
        if type(part) is nn.Linear and not name.startswith("projector")
    }
    save_quantised(
        network, weights, scheme, ONEVISION_0_5B, tokenizer, place,
        dtype=torch.bfloat16, companions={},
    )  # fmt: skip


class Clock:
    """Seconds of named parts, of the clock and of the processor, summed over their calls."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[float, float]] = {}

    def time(self, name: str, call: Callable[[], Any]) -> Any:  # Any: whatever it returns
        """Call, and add what it takes."""
        wall, own = time.perf_counter(), time.process_time()
        try:
            return call()
        finally:
            self.add(name, time.perf_counter() - wall, time.process_time() - own)

    def add(self, name: str, wall: float, own: float) -> None:
        """Add seconds to a part."""
        before = self.parts.get(name, (0.0, 0.0))
        self.parts[name] = before[0] + wall, before[1] + own

    def watch(self, module: Any, function: str, name: str) -> None:  # Any: a module or a class
        """Time every call of a module's function from now on."""
        call = getattr(module, function)
        setattr(module, function, lambda *a, **k: self.time(name, lambda: call(*a, **k)))


def answer(options: argparse.Namespace) -> None:
    """Load and answer in this process; print the seconds of each part as JSON."""
    clock = Clock()
    clock.time("import torch", lambda: import_module("torch"))
    clock.time("import the rest", lambda: import_module("onevision.generate.answer"))
    import torch

    from onevision.accelerate import apply, int8_packer
    from onevision.checkpoint import checksums
    from onevision.generate import answer as door
    from onevision.generate import loading

    torch.set_num_threads(options.threads)
    clock.watch(door, "inspect_any", "header")
    clock.watch(loading, "start_network", "empty network")
    clock.watch(loading, "fill_network", "map, look for NaN")
    clock.watch(apply, "quantise", "quantise")
    clock.watch(apply, "fuse", "fuse")
    clock.watch(apply, "pack", "test and pack")
    clock.watch(int8_packer, "try_kernel", "of that, tests and what they pack")
    clock.watch(door, "load_tokenizer", "tokenizer")
    hash_file = checksums._hash_file

    def hash_timed(path: Path, stop: Any) -> str:  # Any: an event
        wall, own = time.perf_counter(), time.thread_time()
        found = hash_file(path, stop)
        wall, own = time.perf_counter() - wall, time.thread_time() - own
        clock.add("checksums, beside the rest", wall, own)
        return found

    checksums._hash_file = hash_timed
    model = clock.time(
        "load, all of it",
        lambda: door.load(options.file, verify=options.verify, quantize=options.quantize),
    )
    clock.time("first answer", lambda: model.ask("What is this?", max_new_tokens=1))
    whole = time.perf_counter() - BEGAN, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "seconds": {**clock.parts, "whole process": whole},
                "arithmetic": model.arithmetic,
                "reasons": model.arithmetic_reasons,
                "peak_gib": peak,
                "held_gib": resident_gib(),
            }
        )
    )


def resident_gib() -> float:
    """Return what this process holds in memory of its own, without pages of files."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split("RssAnon:")[1].split()[0]) / 2**20


BEGAN = time.perf_counter()


def main() -> None:
    """Write the file, load it in processes of their own, and print and write medians."""
    options = read_arguments()
    if options.child:
        answer(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.file is None:
            options.file = str(Path(folder) / "file")
            write_file(Path(options.file), plain=options.plain)
        environment = {**os.environ, "ONEVISION_CACHE": str(Path(folder) / "cache")}
        runs = [run(options, environment) for _ in range(options.rounds + 1)]
    first, later = runs[0], runs[1:]
    result = {
        "first load": summarise([first]),
        "later loads": summarise(later),
        "arithmetic": first["arithmetic"],
        "reasons": first["reasons"],
        "peak_gib": round(median(one["peak_gib"] for one in later), 2),
        "held_gib": round(median(one["held_gib"] for one in later), 2),
        "threads": options.threads,
        "verify": options.verify,
        "load": os.getloadavg(),
    }
    for name in result["later loads"]:
        pairs = (result[kind][name] for kind in ("first load", "later loads"))
        print(f"{name:<36}" + "".join(f"{w:9.2f} s ({o:5.2f} s)" for w, o in pairs))
    print({name: value for name, value in result.items() if not name.endswith(("load", "loads"))})
    (RESULTS / options.result).write_text(json.dumps(result, indent=1) + "\n")


def run(options: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """Load in a process of its own; return what it prints."""
    command = [sys.executable, "-m", "benchmarks.loading", "--child", "--file", options.file]
    command += ["--threads", str(options.threads)]
    command += [] if options.verify else ["--no-verify"]
    command += [] if options.quantize is None else ["--quantize", options.quantize]
    began = time.perf_counter()
    lines = subprocess.check_output(command, text=True, env=environment).splitlines()
    found = json.loads(lines[-1])
    found["seconds"]["from the outside"] = time.perf_counter() - began, 0.0
    return found


def summarise(runs: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the medians of each part: seconds of the clock, and of the processor."""
    return {
        name: (
            round(median(one["seconds"][name][0] for one in runs), 2),
            round(median(one["seconds"][name][1] for one in runs), 2),
        )
        for name in runs[0]["seconds"]
        if all(name in one["seconds"] for one in runs)
    }


def read_arguments() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--quantize")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-verify", dest="verify", action="store_false")
    parser.add_argument("--result", default="loading.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
