"""Is a training step fast, and does it hold little? Ours against the plain way, same samples.

    python -m benchmarks.train                     tokens/s and peak memory, bf16 and fp32
    python -m benchmarks.train --profile           where the time of our step goes
    python -m benchmarks.train --shape 0.5b        the same at 0.5B, where memory allows it
    python -m benchmarks.train --device cuda --shape 7b --compile --recompute
                                                   ours alone: tokens/s, MFU, memory

The plain way is what most fine-tuning scripts do: transformers' model in training mode with its own
loss, samples padded on the right to the longest of a batch, torch's AdamW. Ours packs the same
samples into rows. Both start from the same weights, train all parts in the same precision (bf16:
autocast over fp32 weights) and take optimiser steps on the same 16 samples. Losses are compared
first, sample by sample. Every timing is a process of its own; the ways take turns. Where cores are
shared, trust the seconds of `--threads 1` that the processor itself has counted.

transformers stacks the videos of a batch, so all have four frames. Its logits of a batch exist
together, 14 bytes each at the peak in bf16: eight padded samples of 2,000 tokens need 34 GB. Where
that does not fit, `--plain-batch` makes batches smaller, whose gradients it adds up; smaller
batches hold less padding and less memory, so this errs in the plain way's favour.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.train_samples import BASE, ONEVISION_MIXED_16, SEED, draw, shape_named
from benchmarks.train_ways import Ours, Plain, write_weights
from onevision.train.report.metrics import peak_resident_bytes

if TYPE_CHECKING:
    from onevision.config import ModelConfig

PLAIN_BATCH = 8
# Relative difference of a sample's loss in fp32.
TOLERANCE = 1e-4
RESULTS = Path(__file__).parent / "results"


def run_way(options: argparse.Namespace) -> dict[str, object]:
    """Compare or time one way, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    if options.way == "plain":
        way = Plain(options.path, options)
    else:
        from onevision.checkpoint.load import inspect, load_network

        way = Ours(load_network(inspect(options.path), dtype=torch.float32), options)
    config = shape_named(options.shape)
    if options.losses:
        return {"losses": way.losses(draw(0, config))}
    return timed(way, options, config)


def timed(way: Ours | Plain, options: argparse.Namespace, config: "ModelConfig") -> dict:
    """Take one step to warm up and some on the clock; what the loader does is not on it."""
    losses, seconds, cpu_seconds = [], [], []
    for number in range(options.steps + 1):
        batches = way.batches(draw(number, config))
        began, cpu_began = time.perf_counter(), time.process_time()
        losses.append(way.step(batches))
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu_began)
    return {
        "losses": losses,
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float:
    """Peak memory of this process."""
    return peak_resident_bytes() / 2**20


def measured(options: argparse.Namespace, way: str, precision: str, *more: str) -> dict:
    """Run one way in a process of its own, so that its memory is its own."""
    command = [
        *(sys.executable, "-m", "benchmarks.train", "--way", way, "--precision", precision),
        *("--path", str(options.path), "--shape", options.shape, "--steps", str(options.steps)),
        *("--plain-batch", str(options.plain_batch), "--threads", str(options.threads)),
        *(["--recompute"] if options.recompute else []),
        *(["--compile"] if options.compile else []),
        *more,
    ]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
    return json.loads(done.stdout.splitlines()[-1])


def compare(options: argparse.Namespace) -> dict:
    """Compare losses, then let the ways take turns; returns all figures."""
    plain, ours = (measured(options, w, "fp32", "--losses")["losses"] for w in ("plain", "ours"))
    difference = max(abs(a - b) / b for a, b in zip(ours, plain, strict=True))
    assert difference < TOLERANCE, f"losses of samples differ by {difference:.2e}"
    print(f"{len(ours)} samples: the same loss in fp32, to {difference:.1e} relative", flush=True)
    results: dict = {"relative_loss_difference": difference}
    for precision in options.precisions:
        rounds = []
        for _ in range(options.rounds):
            pair = {way: measured(options, way, precision) for way in ("plain", "ours")}
            rounds.append(pair)
            print(precision, {w: [round(s, 2) for s in r["seconds"]] for w, r in pair.items()})
        results[precision] = summary(rounds)
        print(table(precision, results[precision]), flush=True)
    return results


def summary(rounds: list[dict]) -> dict:
    """Put the rounds of both ways into a few numbers."""
    labels = sum(sample.answer for sample in ONEVISION_MIXED_16)
    found: dict = {}
    for way in ("plain", "ours"):
        seconds = [s for one in rounds for s in one[way]["seconds"]]
        busy = [s for one in rounds for s in one[way]["cpu_seconds"]]
        found[way] = {
            "supervised_tokens_per_second": labels / median(seconds),
            "supervised_tokens_per_cpu_second": labels / median(busy),
            "step_seconds": seconds,
            "step_cpu_seconds": busy,
            "peak_mib": max(one[way]["peak_mib"] for one in rounds),
            "losses": rounds[0][way]["losses"],
        }
    for clock in ("seconds", "cpu_seconds"):
        ratios = [median(r["plain"][clock]) / median(r["ours"][clock]) for r in rounds]
        found[f"{clock}_ratio"] = median(ratios)
        found[f"{clock}_ratio_of_rounds"] = ratios
    found["memory_ratio"] = found["ours"]["peak_mib"] / found["plain"]["peak_mib"]
    return found


def table(precision: str, found: dict) -> str:
    """Return the figures as lines."""
    lines = [f"{precision:<6} supervised tokens/s  s/step  CPU s/step  peak MiB  last loss"]
    for way in ("plain", "ours"):
        one = found[way]
        lines.append(
            f"{way:<6} {one['supervised_tokens_per_second']:19.1f} "
            f"{median(one['step_seconds']):7.1f} {median(one['step_cpu_seconds']):11.1f} "
            f"{one['peak_mib']:9.0f} {one['losses'][-1]:10.5f}"
        )
    for clock in ("seconds", "cpu_seconds"):
        each = ", ".join(f"{ratio:.2f}" for ratio in found[f"{clock}_ratio_of_rounds"])
        lines.append(f"{clock}: {found[f'{clock}_ratio']:.2f} x less (rounds: {each})")
    lines.append(f"memory: {found['memory_ratio']:.2f} of the plain way's")
    return "\n".join(lines)


def bytes_needed(options: argparse.Namespace) -> float:
    """Return about what the plain way holds: weights, gradient, moments, logits at their peak."""
    import torch

    from onevision.model.llava import LlavaNetwork

    config = shape_named(options.shape)
    with torch.device("meta"):
        network = LlavaNetwork(config)
    longest = max(len(example.input_ids) for example in draw(0, config))
    logits = options.plain_batch * longest * config.language.vocab_size
    return 16 * sum(p.numel() for p in network.parameters()) + 14 * logits + 2**30


def bytes_available() -> float:
    """Return the memory that this machine has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(li.split()[1]) for li in lines if li.startswith("MemAvailable"))


def profile(options: argparse.Namespace) -> None:
    """Print where the time of our step goes."""
    import torch

    from onevision.checkpoint.load import inspect, load_network

    way = Ours(load_network(inspect(options.path), dtype=torch.float32), options)
    config = shape_named(options.shape)
    way.step(way.batches(draw(0, config)))
    batches = way.batches(draw(1, config))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        way.step(batches)
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))


def on_accelerator(options: argparse.Namespace) -> dict:
    """Time our step on a CUDA device, from random weights, with bf16 arithmetic."""
    import torch

    from onevision.model.llava import LlavaNetwork
    from onevision.train.cost.devices import get_device_kind

    config = shape_named(options.shape)
    torch.manual_seed(SEED)
    with torch.device(options.device):
        network = LlavaNetwork(config)
    way, seconds = Ours(network, options), []
    for number in range(options.steps + 1):
        batches = [batch.to(options.device) for batch in way.batches(draw(number, config))]
        torch.cuda.synchronize()
        began = time.perf_counter()
        way.step(batches)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    step, samples = median(seconds[1:]), draw(0, config)
    return {
        "tokens_per_second": sum(len(s.input_ids) for s in samples) / step,
        "supervised_tokens_per_second": sum(s.answer for s in ONEVISION_MIXED_16) / step,
        "mfu": model_operations(config) / step / get_device_kind(options.kind).peak_flops,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "step_seconds": seconds[1:],
    }


def model_operations(config: "ModelConfig") -> float:
    """Return the operations of a step that every way must take: forwards, and twice backwards."""
    from onevision.train.cost.plan import language_flops

    token, pair = language_flops(config.language)
    head = 2.0 * config.language.hidden_size * config.language.vocab_size
    total = 0.0
    for example in draw(0, config):
        length, labels = len(example.input_ids), int((example.labels >= 0).sum())
        total += len(example.crops) * config.vision.flops
        total += length * token + length**2 / 2 * pair + labels * head
    return 3 * total


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=(BASE, "0.5b", "7b"), default=BASE)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--kind", default="h200", help="the device whose peak MFU is a share of")
    parser.add_argument("--steps", type=int, default=2, help="steps timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--plain-batch", type=int, default=PLAIN_BATCH)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--padded", action="store_true", help="ours, without packing")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--output", type=Path)
    for inner in ("--way", "--path", "--precision"):
        parser.add_argument(inner, default="bf16" if inner == "--precision" else None)
    parser.add_argument("--losses", action="store_true")
    return parser


def main() -> None:
    """Measure, and print a table."""
    options = arguments().parse_args()
    if options.way:
        options.path = Path(options.path)
        print(json.dumps(run_way(options)))
        return
    if options.device == "cuda":
        print(json.dumps(on_accelerator(options), indent=2))
        return
    needed, free = bytes_needed(options) / 2**30, bytes_available() / 2**30
    if needed > free and not options.profile:
        sys.exit(
            f"the plain way needs about {needed:.0f} GiB in batches of {options.plain_batch}, "
            f"{free:.0f} GiB are free; choose a smaller --plain-batch, or more memory"
        )
    with tempfile.TemporaryDirectory() as folder:
        options.path = Path(folder)
        write_weights(options.path, shape_named(options.shape))
        if options.profile:
            profile(options)
            return
        results = compare(options)
    results |= {
        "command": " ".join(["python", "-m", "benchmarks.train", *sys.argv[1:]]),
        "mix": [asdict(sample) for sample in ONEVISION_MIXED_16],
        "plain_batch": options.plain_batch,
        "threads": options.threads,
        "load_average": os.getloadavg(),
    }
    output = options.output or RESULTS / "train-cpu.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
