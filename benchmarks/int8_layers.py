"""What does each form of int8 do on this processor: is it right, and is it faster than plain?

    python -m benchmarks.int8_layers                  layers of the 0.5B shape, one thread
    python -m benchmarks.int8_layers --only FBGEMM    one form
    python -m benchmarks.int8_layers --plot           draws docs/int8.png from the results

Every form runs in a process of its own, since one that the processor cannot compute may end it:
then its line says by which signal. Forms that `quantize="int8"` passes over here are timed all the
same. Times are the least of several, as the processor counted them, so that a busy machine changes
them less; errors are relative to the norm of fp32 products. Writes one file a processor:
benchmarks/results/int8-layers-avx2.json for one with AVX2.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from onevision.accelerate import int8_kernels
from onevision.accelerate.int4 import Int4Linear, PackedInt4Linear
from onevision.accelerate.int8 import Int8Linear
from onevision.accelerate.packed import PackedLinear

RESULTS = Path(__file__).parent / "results"
PLOT = Path(__file__).parent.parent / "docs" / "int8.png"
SHAPES = {"gate": (896, 4864), "down": (4864, 896), "vision up": (1152, 4304)}
ROWS = (1, 16, 512)
# A form that takes longer than this for few rows is not asked for many.
MOST_SECONDS = 0.04
Form = Callable[[Tensor], Tensor]


def kernel(name: str, parts: int = 1) -> Callable[[nn.Linear], Form]:
    """Return what packs a layer by a kernel of the table, whether or not it would be chosen."""
    (found,) = [one for one in int8_kernels.KERNELS if one.name == name]

    def pack(layer: nn.Linear) -> Form:
        if name == "zentorch":
            import zentorch  # noqa: F401
        return found.pack(Int8Linear.from_linear(layer, parts=parts))

    return pack


def weight_only(layer: nn.Linear) -> Form:
    """Pack for ATen's product of plain rows with int8 weights."""
    own = Int8Linear.from_linear(layer)
    return lambda x: torch.ops.aten._weight_int8pack_mm(x, own.weight, own.scale)


FORMS: dict[str, Callable[[nn.Linear], Form]] = {
    "fp32": PackedLinear,
    "zentorch": kernel("zentorch"),
    "oneDNN": kernel("oneDNN"),
    "FBGEMM": kernel("FBGEMM"),
    "FBGEMM, rows in two parts": kernel("FBGEMM", parts=2),
    "ATen _int_mm": kernel("ATen"),
    "ATen weight-only": weight_only,
    "int4": lambda layer: PackedInt4Linear(Int4Linear.from_linear(layer)),
}


@torch.inference_mode()
def measure(name: str) -> dict[str, object]:
    """Return seconds and errors of one form, by layer and rows."""
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    for title, (inputs, outputs) in SHAPES.items():
        torch.manual_seed(0)
        layer = nn.Linear(inputs, outputs, bias=False)
        form = FORMS[name](layer)
        slow = False
        for count in ROWS:
            x = torch.randn(count, inputs)
            if slow:
                continue
            error = float((form(x) - layer(x)).norm() / layer(x).norm())
            seconds = least_seconds(lambda form=form, x=x: form(x))
            slow = count < ROWS[-1] and seconds > MOST_SECONDS
            found[f"{title}, {count}"] = {"seconds": seconds, "error": round(error, 5)}
    return found


def least_seconds(call: Callable[[], object]) -> float:
    """Return the least of several times of a call, which has been made before."""
    times = list[float]()
    while len(times) < 3 or (sum(times) < 0.1 and len(times) < 200):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def run_apart(name: str) -> dict[str, object]:
    """Measure a form in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.int8_layers", "--child", "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return {"fault": f"the process is ended by {signal.Signals(-done.returncode).name}"}
    if done.returncode:
        return {"fault": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def plot(path: Path) -> None:
    """Draw how many times as fast as fp32 each form is."""
    from matplotlib import pyplot

    results = json.loads(path.read_text())["forms"]
    plain = results["fp32"]
    names = [n for n, own in results.items() if n != "fp32" and "fault" not in own]
    figure, axes = pyplot.subplots(1, len(ROWS), figsize=(10, 3.2), sharey=True)
    for panel, count in zip(axes, ROWS, strict=True):
        key = f"gate, {count}"
        speeds = [
            plain[key]["seconds"] / results[n][key]["seconds"] if key in results[n] else 0
            for n in names
        ]
        wrong = [key in results[n] and results[n][key]["error"] > 0.1 for n in names]
        colours = ["lightgrey" if bad else "C0" for bad in wrong]
        panel.barh(names, speeds, color=colours)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title("1 row" if count == 1 else f"{count} rows", fontsize=10)
        panel.set_xlabel("times as fast as fp32")
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)
    print(PLOT)


def main() -> None:
    """Measure every form, each apart, and print and write what was found."""
    arguments = read_arguments()
    if arguments.child:
        print(json.dumps(measure(arguments.only)))
        return
    path = RESULTS / f"int8-layers-{torch.backends.cpu.get_cpu_capability().lower()}.json"
    if arguments.plot:
        plot(path)
        return
    forms: dict[str, dict[str, object]] = {}
    for name in FORMS if arguments.only is None else [arguments.only]:
        forms[name] = run_apart(name)
        print(f"{name:<26} {forms[name]}", flush=True)
    result = {"forms": forms, "threads": 1, "load": os.getloadavg(), "torch": torch.__version__}
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


def read_arguments() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=FORMS)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
