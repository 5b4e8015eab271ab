"""How much host memory does it take to move the weights of a large model?

    python -m benchmarks.streamed                      7B in bf16: 15 GiB of weights, 31 GB of disk
    python -m benchmarks.streamed --shape 0.5b

A checkpoint of random weights is written, tensor by tensor; loaded onto a device whose memory is
not the host's ("meta", which has none, stands for a GPU); loaded as one of as many devices as can
share it (4 of 7B); and converted to transformers' layout, checksums included. Each in a process of
its own, which samples its anonymous memory every 2 ms and subtracts what it had after its imports.
Pages mapped from files, which the system takes back as it needs them, are counted apart. Prints a
line of JSON each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from onevision.accelerate.empty import without_memory
from onevision.checkpoint.hub import BUNDLED
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import convert, save_weights
from onevision.generate.parallel.shards import load_part
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork

GIB = 2**30
SAMPLE_SECONDS = 0.002
BLOCK = 2**20  # numbers that are drawn; weights repeat them


class MemorySampler:
    """Samples anonymous and mapped memory of this process in a thread, and keeps both peaks."""

    def __init__(self) -> None:
        self.first, self.peaks = memory(), {"RssAnon": 0, "RssFile": 0}
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            now = memory()
            for kind, peak in self.peaks.items():
                self.peaks[kind] = max(peak, now[kind] - self.first[kind])
            time.sleep(SAMPLE_SECONDS)


def memory() -> dict[str, int]:
    """Return the bytes of this process's memory by kind."""
    status = Path("/proc/self/status").read_text()
    return {
        kind: int(status.split(f"{kind}:")[1].split()[0]) * 1024 for kind in ("RssAnon", "RssFile")
    }


def write(directory: Path, shape: str) -> None:
    """Write a checkpoint of random weights."""
    config = ARCHITECTURES[shape]
    with without_memory():
        expected = LlavaNetwork(config).to(torch.bfloat16).state_dict()
    block = 0.02 * torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).bfloat16()

    def fetch(name: str) -> Tensor:
        own = expected[name]
        times = -(-own.numel() // BLOCK)
        return block.repeat(times)[: own.numel()].view(own.shape)

    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    save_weights(expected, fetch, config, tokenizer, directory / "model")


def load_whole(directory: Path, _shape: str) -> None:
    """Load all weights onto a device with memory of its own."""
    load_network(inspect(directory / "model"), device="meta")


def load_a_part(directory: Path, shape: str) -> None:
    """Load what the second of several devices holds."""
    info, count = inspect(directory / "model"), ARCHITECTURES[shape].language.num_kv_heads
    load_part(info, rank=1, count=count, dtype=torch.bfloat16, device="meta")


def rewrite(directory: Path, _shape: str) -> None:
    """Convert to transformers' layout."""
    convert(inspect(directory / "model"), directory / "hf", layout="llava-hf")


WAYS: Mapping[str, Callable[[Path, str], None]] = MappingProxyType(
    {"write": write, "load": load_whole, "load a part": load_a_part, "convert": rewrite}
)


def measure(way: str, directory: Path, shape: str) -> dict[str, object]:
    """Go one way in this process; return seconds and peaks."""
    torch.set_num_threads(1)
    sampler, began = MemorySampler(), time.perf_counter()
    WAYS[way](directory, shape)
    seconds = time.perf_counter() - began
    peaks = {kind: round(peak / GIB, 2) for kind, peak in sampler.peaks.items()}
    return {"way": way, "seconds": round(seconds), **peaks}


def main() -> None:
    """Go all ways, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=ARCHITECTURES, default="7b")
    parser.add_argument("--directory", type=Path, help="where the files are written, and removed")
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.directory, options.shape)))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as place:
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.streamed", "--shape", options.shape]
            subprocess.run([*command, "--directory", place, "--way", way], check=True)
        files = [path.stat().st_size for path in Path(place, "model").glob("*.safetensors")]
        print(json.dumps({"weights in GiB": round(sum(files) / GIB, 2), "files": len(files)}))


if __name__ == "__main__":
    main()
