"""What do fewer visual tokens cost and save? Accuracy by family, and time to the first words.

    python -m benchmarks.keep questions                     the embedded tiny, all held-out sets
    python -m benchmarks.keep times                         tiny's server, alone and 16 clients
    python -m benchmarks.keep times --shape 0.5b --keeps 1 --clients 1
    python -m benchmarks.keep choosing                      what choosing tokens takes
    python -m benchmarks.keep table                         what has been measured, as Markdown

`questions` asks the embedded tiny `--count` held-out questions a set with each share of the visual
tokens. `times` starts a server for each share and number of clients; each client asks about
pictures that nobody has seen, of 640 x 480 (0.5b, with random weights: 384 x 384), for 32 tokens.
`choosing` takes random features of a picture of 1920 x 1080 and of a video of 32 frames, 0.5b's
width. Lines are added to benchmarks/results/keep-cpu.json; a line of the same kind, share and load
is replaced.
"""

import argparse
import base64
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.inference import RESULTS, picture
from benchmarks.inference_peer import write_checkpoint
from benchmarks.serving import SHAPES, Body, Command, measure, request, serving, text
from onevision import load
from onevision.accelerate.processor import can_multiply
from onevision.anyres import AnyRes, Layout, VideoRule, plan, plan_video
from onevision.checkpoint.hub import BUNDLED
from onevision.eval.heldout import NUM_QUESTIONS, READING, SCENARIOS, run_heldout
from onevision.pruning import choose_tokens

KEEPS = (1.0, 0.5, 0.25, 0.1)
SIZES = {"tiny": (640, 480), "0.5b": (384, 384)}
THREADS = 2
Line = dict[str, Any]  # Any: JSON
# What tells a line from the others of its file.
IDENTITY = ("kind", "set", "shape", "medium", "clients", "keep")


def questions(options: argparse.Namespace) -> Iterator[Line]:
    """Ask the embedded tiny; give a line a set and share."""
    model = load("tiny")
    for scenario in options.sets:
        for keep in options.keeps:
            result = run_heldout(model, scenario, count=options.count, keep=keep)
            yield {
                "kind": "questions", "set": scenario, "keep": keep, "questions": options.count,
                "accuracy": round(100 * result.accuracy, 1),
                "low": round(100 * result.interval.low, 1),
                "high": round(100 * result.interval.high, 1),
                "families": {name: list(counts) for name, counts in result.by_family().items()},
            }  # fmt: skip


def times(options: argparse.Namespace) -> Iterator[Line]:
    """Serve with each share; give a line a share and number of clients."""
    dtype = SHAPES[options.shape] if can_multiply(torch.bfloat16) else "float32"
    source = BUNDLED["tiny"]
    if options.shape != "tiny":
        source = Path(tempfile.gettempdir()) / "onevision-random-0.5b"
        write_checkpoint(source)
    words = ("onevision", "serve", "--model", str(source), "--name", "model", "--dtype", dtype)
    command = Command((*words, "--limit", "preparing=64"), THREADS)
    for clients in options.clients:
        for keep in options.keeps:
            with serving(command) as url:
                measure(url, [body(options.shape, -1, keep)], clients=1, seconds=options.seconds)
                bodies = [body(options.shape, n, keep) for n in range(clients * options.each)]
                level = measure(url, bodies, clients=clients, seconds=options.seconds)
            yield {"kind": "times", "shape": options.shape, "dtype": dtype, "clients": clients,
                   "keep": keep, **level}  # fmt: skip


def body(shape: str, number: int, keep: float) -> Body:
    """Return a request about a picture of its own."""
    out, drawn = io.BytesIO(), picture(*SIZES[shape], number + 1).source
    drawn.save(out, "PNG")  # type: ignore[union-attr] a Pillow image
    url = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    part = {"type": "image_url", "image_url": {"url": url}, "keep": keep}
    return request([part, text("Describe it.")], tokens=32, salt="keep")


def choosing(options: argparse.Namespace) -> Iterator[Line]:
    """Choose among random features; give a line a medium and share."""
    torch.set_num_threads(THREADS)
    for keep in options.keeps:
        media: dict[str, Layout] = {
            "picture of 1920 x 1080": plan(width=1920, height=1080, rule=AnyRes(), keep=keep),
            "video of 32 frames": plan_video(num_frames=32, rule=VideoRule(), keep=keep),
        }
        for name, layout in media.items():
            tokens = torch.randn(layout.num_patches + layout.num_newlines, 896).bfloat16()
            took = []
            for _ in range(5):
                began = time.perf_counter()
                choose_tokens(tokens, layout)
                took.append(time.perf_counter() - began)
            yield {
                "kind": "choosing", "medium": name, "keep": keep, "tokens": len(tokens),
                "stay": layout.num_tokens, "seconds": round(sorted(took)[2], 4),
                "load": round(os.getloadavg()[0], 1),
            }  # fmt: skip


def table(lines: list[Line]) -> str:
    """Return the lines as Markdown: families by share, then times, then choosing."""
    rows = list[str]()
    asked = [line for line in lines if line["kind"] == "questions"]
    for scenario in dict.fromkeys(line["set"] for line in asked):
        own = {line["keep"]: line for line in asked if line["set"] == scenario}
        shares = sorted(own, reverse=True)
        rows += ["", f"| {scenario} | asked | {' | '.join(f'{100 * k:g} %' for k in shares)} |"]
        rows.append("|---|---|" + "---|" * len(shares))
        families = own[shares[0]]["families"]
        count = own[shares[0]]["questions"]
        rows.append(f"| all | {count} | {' | '.join(str(own[k]['accuracy']) for k in shares)} |")
        for family, (_, number) in sorted(families.items(), key=lambda one: -one[1][1]):
            found = (own[k]["families"][family][0] / number for k in shares)
            shown = " | ".join(f"{100 * share:.1f}" for share in found)
            rows.append(f"| {family} | {number} | {shown} |")
    rows += [
        "",
        "| | clients | keep | first words, median | 95th | requests/s | load |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if line["kind"] == "times":
            first = line["first_words_seconds"]
            rows.append(
                f"| {line['shape']} | {line['clients']} | {line['keep']} | {first['p50']:.2f} s | "
                f"{first['p95']:.2f} s | {line['requests_per_second']:.2f} | {line['load']} |"
            )
    rows += ["", "| | keep | tokens | stay | choosing |", "|---|---|---|---|---|"]
    for line in lines:
        if line["kind"] == "choosing":
            rows.append(
                f"| {line['medium']} | {line['keep']} | {line['tokens']:,} | {line['stay']:,} | "
                f"{1000 * line['seconds']:.0f} ms |"
            )
    return "\n".join(rows)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("questions", "times", "choosing", "table"))
    parser.add_argument("--keeps", nargs="+", type=float, default=KEEPS)
    parser.add_argument("--sets", nargs="+", default=[*SCENARIOS, *READING])
    parser.add_argument("--count", type=int, default=NUM_QUESTIONS, help="questions a set")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--each", type=int, default=2, help="requests of each client")
    parser.add_argument("--seconds", type=float, default=110, help="bound of a level")
    parser.add_argument("--output", type=Path, default=RESULTS / "keep-cpu.json")
    options = parser.parse_args()
    lines: list[Line] = json.loads(options.output.read_text()) if options.output.exists() else []
    if options.what == "table":
        print(table(lines))
        return
    made = {"questions": questions, "times": times, "choosing": choosing}[options.what]
    for line in made(options):
        print(json.dumps(line), flush=True)
        same = [one for one in lines if all(one.get(k) == line.get(k) for k in IDENTITY)]
        lines = [one for one in lines if one not in same] + [line]
        options.output.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
