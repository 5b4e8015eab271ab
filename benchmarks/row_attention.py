"""How fast does one new token attend to a KV cache? torch's fused kernel against zentorch's.

    python -m benchmarks.row_attention        15 s; needs pip install 'onevision[fast]'

For heads as those of 0.5B, 7B and SmolLM2, in bf16 and fp32. Each call attends with one position of
one sequence; there are as many sequences as make 64 MiB of keys and values, so that they come from
memory and not from a cache. Outputs are compared first, then the two take turns; medians are given.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.inference import NAMES, RESULTS
from onevision.accelerate.cached_attention import attention_to_many
from onevision.accelerate.zentorch_library import find_zentorch_obstacle

# Heads of keys, queries that share one, numbers a head.
SHAPES = {"0.5b": (2, 7, 64), "7b": (4, 7, 128), "smollm2": (3, 3, 64)}
LENGTHS = (64, 256, 900, 6600)
BYTES = 64 << 20
ROUNDS = 7


def attend_all(kernel: Callable[..., Tensor], rows: list[tuple[Tensor, ...]]) -> float:
    """Return the seconds of a call, of one pass over all sequences."""
    began = time.perf_counter()
    for row in rows:
        kernel(*row)
    return (time.perf_counter() - began) / len(rows)


@torch.inference_mode()
def measure(name: str, length: int, dtype: torch.dtype) -> dict[str, object]:
    """Compare the two for one shape."""
    groups, shared, size = SHAPES[name]
    count = max(2, BYTES // (2 * groups * length * size * dtype.itemsize))
    rows = [
        (
            torch.randn(1, groups, shared, size).to(dtype),
            # A view into a longer buffer, as in a cache that will grow.
            *(torch.randn(1, groups, length + 64, size).to(dtype)[:, :, :length] for _ in range(2)),
        )
        for _ in range(count)
    ]
    chosen = attention_to_many(groups, shared, size, dtype=dtype)
    kernels = (F.scaled_dot_product_attention, chosen)
    expected, found = (kernel(*rows[0]).float() for kernel in kernels)
    error = float((expected - found).norm() / expected.norm())
    assert error < 0.02, f"outputs differ by {error:.1%}"
    times = [[attend_all(kernel, rows) for kernel in kernels] for _ in range(ROUNDS)]
    theirs, ours = (1e6 * median(own) for own in zip(*times, strict=True))
    line = {
        "shape": name, "keys": length, "dtype": NAMES[dtype], "torch_us": round(theirs, 1),
        "zentorch_us": round(ours, 1), "ratio": round(theirs / ours, 2), "error": round(error, 6),
        "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    print(json.dumps(line), flush=True)
    return line


def main() -> None:
    """Measure every shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "row-attention-cpu.json")
    output = parser.parse_args().output
    if obstacle := find_zentorch_obstacle():
        raise SystemExit(f"zentorch: {obstacle}")
    torch.manual_seed(0)
    lines = [measure(*one) for one in ((n, t, d) for d in NAMES for n in SHAPES for t in LENGTHS)]
    output.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
