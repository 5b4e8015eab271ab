"""How does time grow? With the area of an image, with images, frames, context and batch size.

    python -m benchmarks.growth                    0.5B shape, 2 threads (12 minutes in fp32)
    python -m benchmarks.growth --only context     one sweep
    python -m benchmarks.growth --replot FILE      the picture again, from a file of results

Weights are random, in bf16, or in fp32 if the processor does not multiply in bf16. A point of
prefill is one turn (the first of a sweep runs twice and counts once), a point of decoding the
median of `--rounds` turns. Its floor is operations over the fastest product, or bytes over the
fastest read, of the same run. Lines are fitted by least squares. Writes
benchmarks/results/growth-cpu.json and docs/growth.png.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as PIL

from benchmarks.inference import NAMES, RESULTS, engine_of, picture, question
from benchmarks.inference_peer import write_checkpoint
from onevision import Conversation, Text, Video, load, plots
from onevision.batch import ModelInputs
from onevision.config import ModelConfig
from onevision.generate.answer import Model
from onevision.generate.engine import Engine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = Path(__file__).parents[1] / "docs" / "growth.png"
STEPS = 12  # of decoding, a turn
PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 290, 220, 3
STEPPED = ("context", "company")  # sweeps of decoding steps, which are milliseconds


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement: how much of what, the seconds it took, and their lower bound."""

    amount: float
    seconds: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """How one thing grows: `intercept + slope * amount` seconds, and how well that fits."""

    name: str
    unit: str
    points: tuple[Point, ...]
    intercept: float
    slope: float
    r_squared: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The best of this machine: operations and bytes per second."""

    operations: float
    bytes: float


def machine_of(model: Model) -> Machine:
    """Measure the fastest product of many rows, and the fastest of one row."""
    head = model.network.language_model.head
    width, vocab = head.in_features, head.out_features
    dtype = model.engine.dtype
    many, one = (torch.randn(rows, width, dtype=dtype) for rows in (512, 1))
    most = min(_seconds(lambda: head(many)) for _ in range(5))
    least = min(_seconds(lambda: head(one)) for _ in range(10))
    return Machine(
        operations=2 * 512 * width * vocab / most, bytes=dtype.itemsize * width * vocab / least
    )


def operations(model: Model, prompt: ModelInputs) -> float:
    """Return the operations of reading a prompt: vision encoder, projector, language model."""
    language, length = model.config.language, prompt.input_ids.shape[1]
    # A picture of one crop is its own base, and encoded once.
    crops = sum(layout.num_crops - (layout.num_crops == 2) for layout in prompt.layouts)
    attention = 2 * length**2 * language.hidden_size * language.num_layers  # causal: half of them
    return vision_operations(model.config, crops) + 2 * _weights(model) * length + attention


def vision_operations(config: ModelConfig, crops: int) -> float:
    """Return the operations of encoding and projecting crops."""
    vision, width = config.vision, config.vision.hidden_size
    block = 2 * vision.num_patches * (4 * width**2 + 2 * width * vision.intermediate_size)
    block += 4 * vision.num_patches**2 * width
    onto = config.language.hidden_size
    projector = 2 * vision.num_patches * (width + onto) * onto
    return crops * (vision.num_layers * block + projector)


def _weights(model: Model) -> float:
    """Count the weights that every token meets, but for the head's."""
    language = model.config.language
    kv_width = language.num_kv_heads * language.head_size
    block = 2 * language.hidden_size * (language.hidden_size + kv_width)
    block += 3 * language.hidden_size * language.intermediate_size
    return language.num_layers * block


def step_bytes(model: Model, contexts: Sequence[int]) -> float:
    """Return what a decoding step reads: all weights, and the keys and values of all contexts."""
    language = model.config.language
    kv = 2 * language.num_layers * language.num_kv_heads * language.head_size
    numbers = _weights(model) + language.hidden_size * language.vocab_size + kv * sum(contexts)
    return model.engine.dtype.itemsize * numbers


def reading(
    model: Model, machine: Machine, cases: Sequence[tuple[float, Conversation]]
) -> Iterator[Point]:
    """Measure from a conversation to its first token, caches cold."""
    for amount, talk in cases:
        prompt = model.prompt(talk)

        def run(talk: Conversation = talk) -> None:
            engine = engine_of(model, prefix_cache=False)
            engine.run(
                [engine.submit(model.prompt(talk), replace(model.sampling, max_new_tokens=1))]
            )

        if (amount, talk) == cases[0]:
            run()
        seconds = _seconds(run)
        floor = operations(model, prompt) / machine.operations
        yield Point(amount=amount, seconds=seconds, floor=floor)


def writing(
    model: Model, machine: Machine, cases: Sequence[tuple[float, list[int]]], rounds: int
) -> Iterator[Point]:
    """Measure a step of decoding for answers after contexts of so many tokens."""
    for amount, contexts in cases:
        engine = decoding(model, contexts)

        def run(engine: Engine = engine) -> None:
            for _ in range(STEPS):
                engine.step()

        seconds = median(_seconds(run) for _ in range(rounds)) / STEPS
        floor = step_bytes(model, contexts) / machine.bytes
        yield Point(amount=amount, seconds=seconds, floor=floor)


def decoding(model: Model, contexts: Sequence[int], *, cuda_graphs: bool = True) -> Engine:
    """Return an engine in which answers after these contexts have begun."""
    engine = engine_of(model, prefix_cache=False, cuda_graphs=cuda_graphs)
    sampling = replace(model.sampling, end_ids=(), max_new_tokens=1000)
    words = model.prompt(question(Text("Hi")))
    requests = []
    for context in contexts:
        ids = torch.randint(10, 4000, (1, context))
        none = torch.zeros_like(ids, dtype=torch.bool)
        prompt = replace(words, input_ids=ids, attention_mask=~none, visual_mask=none)
        requests.append(engine.submit(prompt, sampling))
    while not all(request.is_prefilled for request in requests):
        engine.step()
    return engine


Cases = Callable[[Model, Machine, int], Iterator[Point]]


def sweeps() -> dict[tuple[str, str], Cases]:
    """Return every sweep by its name and the unit of its amounts."""
    ask = Text("What is this?")
    sizes = ((384, 384), (768, 384), (768, 768), (1152, 768))
    areas = [(w * h / 1e6, question(picture(w, h), ask)) for w, h in sizes]
    images = [
        (n, question(*(picture(640, 480, seed) for seed in range(n)), ask))
        for n in (2, 3, 4)  # one alone is cut into crops
    ]
    frames = [np.asarray(picture(640, 480, seed).source) for seed in range(12)]
    videos = [(n, _about(frames[:n])) for n in (2, 4, 8, 12)]
    contexts = [(n, [n]) for n in (16, 1024, 2048, 4096)]
    company = [(n, [64] * n) for n in (1, 2, 4, 8, 16)]
    return {
        ("area", "megapixels"): lambda m, k, _: reading(m, k, areas),
        ("images", "images"): lambda m, k, _: reading(m, k, images),
        ("frames", "frames"): lambda m, k, _: reading(m, k, videos),
        ("context", "tokens of context"): lambda m, k, r: writing(m, k, contexts, r),
        ("company", "answers at once"): lambda m, k, r: writing(m, k, company, r),
    }


def _about(frames: Sequence[np.ndarray]) -> Conversation:
    video = Video([PIL.fromarray(frame) for frame in frames], num_frames=len(frames))
    return question(video, Text("What happens?"))  # type: ignore[arg-type] a part like the others


def fit_line(name: str, unit: str, points: Sequence[Point]) -> Sweep:
    """Fit a line to the points, by least squares."""
    x, y = (np.array([getattr(p, field) for p in points]) for field in ("amount", "seconds"))
    slope, intercept = np.polyfit(x, y, 1)
    left = ((y - intercept - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return Sweep(
        name=name, unit=unit, points=tuple(points),
        intercept=float(intercept), slope=float(slope), r_squared=float(1 - left),
    )  # fmt: skip


def write_picture(report: dict[str, Any], path: Path) -> None:
    """Plot one panel per sweep of a file of results: measurements, their line, and the floor."""
    sweeps = report["sweeps"]
    rows, width = math.ceil(len(sweeps) / COLUMNS), COLUMNS * PANEL_WIDTH

    def plot(figure: "Figure") -> None:
        from matplotlib.lines import Line2D

        measured = Line2D([], [], color=plots.colour("s0"), marker="o", label="measured")
        floor = Line2D([], [], color=plots.colour("s1"), ls="--", label="floor of arithmetic")
        subtitle = f"LLaVA-OneVision-0.5B shape, {report['dtype']}, {report['threads']} threads"
        plots.add_heading(figure, "How time grows", subtitle, legend=[measured, floor])
        places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, sweep in zip(places, sweeps, strict=False):
            _plot_panel(axes, sweep)
        for axes in places[len(sweeps) :]:
            axes.set_axis_off()

    height = plots.heading_height(width, num_names=2) + rows * PANEL_HEIGHT
    path.write_bytes(plots.png(plot, width=width, height=height))


def _plot_panel(axes: "Axes", sweep: dict[str, Any]) -> None:
    is_step = sweep["name"] in STEPPED
    scale, what = (1000, "milliseconds per step") if is_step else (1, "seconds to first token")
    table = np.array([[p["amount"], p["seconds"], p["floor"]] for p in sweep["points"]])
    amounts, seconds, floors = table.T
    ends = np.array([0.0, amounts.max()])
    line = scale * np.maximum(0, sweep["intercept"] + sweep["slope"] * ends)
    axes.plot(ends, line, color=plots.colour("s0"), alpha=0.4)
    axes.plot(amounts, scale * floors, "--", color=plots.colour("s1"))
    axes.plot(amounts, scale * seconds, "o", color=plots.colour("s0"), clip_on=False)
    axes.set(xlim=(0, 1.05 * amounts.max()), ylim=(0, 1.15 * scale * seconds.max()))
    axes.locator_params(axis="x", nbins=6, steps=[1, 2, 4, 5, 10])
    axes.set(xlabel=sweep["unit"], ylabel=what, title=sweep["name"].capitalize())


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


@torch.inference_mode()
def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="sweeps whose names hold this word")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, help="keep the random weights here")
    parser.add_argument("--output", type=Path, default=RESULTS / "growth-cpu.json")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--replot", type=Path, help="only plot this file of results")
    options = parser.parse_args()
    if not plots.is_installed():
        parser.error(plots.MISSING)
    if options.replot:
        write_picture(json.loads(options.replot.read_text()), options.picture)
        return
    torch.set_num_threads(options.threads)
    directory = options.checkpoint or Path(tempfile.mkdtemp())
    write_checkpoint(directory)
    model = load(directory)
    machine = machine_of(model)
    found = []
    for (name, unit), cases in sweeps().items():
        if options.only in name:
            found.append(fit_line(name, unit, list(cases(model, machine, options.rounds))))
            print(json.dumps(asdict(found[-1])), flush=True)
    report = {
        "dtype": NAMES[model.engine.dtype], "threads": options.threads,
        "machine": asdict(machine), "load": round(os.getloadavg()[0], 1),
        "sweeps": [asdict(sweep) for sweep in found],
    }  # fmt: skip
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    write_picture(report, options.picture)


if __name__ == "__main__":
    main()
