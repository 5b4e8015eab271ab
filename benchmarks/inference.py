"""Is answering fast, and does it hold little? Ours against transformers, same weights, same inputs.

    python -m benchmarks.inference                   every phase of the table, 0.5B shape, 2 threads
    python -m benchmarks.inference --only decode     the phases whose names hold a word
    python -m benchmarks.inference --neighbour       beside a process of one thread that spins;
                                                     ours in as many threads as commands choose

Weights are random, of the released 0.5B shape, read from one file by both: in bf16, or in fp32
where the processor does not multiply in bf16 (`--dtype` asks for one). In each phase outputs are
compared first; then the two take turns, and medians are reported with their ratio. Peak memory is
that of a process of its own. Cores that others use spoil the times: the load average stands beside
each figure, and with `--threads 1` seconds are those that the processor counted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.inference_peer import Peer, write_checkpoint
from onevision import Conversation, Image, Message, Text, load
from onevision.accelerate.threads import choose_threads
from onevision.generate.answer import Model
from onevision.generate.engine import Engine
from onevision.generate.settings import EngineSettings

RESULTS = Path(__file__).parent / "results"
NAMES = {torch.bfloat16: "bf16", torch.float32: "fp32"}
WIDTH, HEIGHT = 1024, 899  # 10 crops, 6,551 visual tokens
Pair = tuple[Callable[[], object], Callable[[], object]]


def picture(width: int, height: int, seed: int = 0) -> Image:
    """Return a picture with some structure at every scale."""
    import numpy as np
    from PIL import Image as PIL

    rng = np.random.default_rng(seed)
    small = PIL.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8))
    return Image(small.resize((width, height), PIL.Resampling.BICUBIC))


def question(*parts: Image | Text) -> Conversation:
    """Return one user message."""
    return Conversation([Message("user", [*parts])])


def engine_of(model: Model, **settings: object) -> Engine:
    """Return an engine with empty caches."""
    return model.new_engine(EngineSettings(**settings))  # type: ignore[arg-type]


def preprocess(model: Model, peer: Peer, width: int, height: int, *, fast: bool = False) -> Pair:
    """Pixels of one image, from RGB to normalised crops."""
    talk = question(picture(width, height), Text("What is this?"))
    model.processor.fast_images = fast
    outline = model.processor.outline(talk)

    def ours() -> torch.Tensor:
        return model.processor.inputs(model.processor.example(outline)).pixel_values

    source = talk.media[0].source
    apart = (ours() - peer.pixels(source)).abs().max().item()
    assert apart <= (2.1 * 2 / 255 if fast else 0), f"pixels differ by {apart}"
    return lambda: peer.pixels(source), ours


def vision(model: Model, peer: Peer, *, tolerance: float = 0.02) -> Pair:
    """Crops to projected patches, as many at a time as the engine takes."""
    inputs = model.prompt(question(picture(WIDTH, HEIGHT), Text("What is this?")))
    network, pixels = model.network, inputs.pixel_values.to(peer.dtype)
    at_once = model.engine.prefiller.vision_cache.crops_at_once

    def ours() -> torch.Tensor:
        chunks = pixels.split(at_once)
        return torch.cat([network.projector(network.vision_encoder(chunk)) for chunk in chunks])

    close(
        peer.features(pixels[:1]),
        network.projector(network.vision_encoder(pixels[:1])),
        tolerance=tolerance,
    )
    return lambda: peer.features(pixels), ours


def prefill(model: Model, peer: Peer, *, tolerance: float = 0.1) -> Pair:
    """Embeddings of a whole prompt to the logits after it; visual tokens are given."""
    inputs = model.prompt(question(picture(WIDTH, HEIGHT), Text("What is this?")))
    tokens = torch.randn(int(inputs.visual_mask.sum()), 896).to(peer.dtype) * 0.02
    x = model.network.place(inputs.input_ids, inputs.visual_mask, tokens)

    def ours() -> torch.Tensor:
        engine = engine_of(model, prefix_cache=False)
        request = engine.submit(inputs, replace(model.sampling, max_new_tokens=1, logprobs=1))
        request.media[0].tokens = tokens
        engine.run([request])
        return request.answers[0].tokens[0].logprob

    expected = peer.prefill(x).float().log_softmax(-1).max()
    assert abs(float(expected) - ours()) < tolerance, "logits after the prompt differ"
    return lambda: peer.prefill(x), ours


def decode(model: Model, peer: Peer, context: int, steps: int = 16) -> Pair:
    """`steps` greedy tokens after a context of so many."""
    ids = torch.randint(10, 4000, (1, context))
    x = model.network.language_model.embedding(ids)
    peer.prefill(x)
    engine = engine_of(model, prefix_cache=False)
    prompt = replace(
        model.processor(question(Text("Hi"))),
        input_ids=ids,
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
        visual_mask=torch.zeros_like(ids, dtype=torch.bool),
    )
    sampling = replace(model.sampling, end_ids=(), max_new_tokens=steps * 64)
    request = engine.submit(prompt, sampling)
    while not request.is_prefilled:
        engine.step()

    def ours() -> None:
        for _ in range(steps):
            engine.step()

    return lambda: peer.decode(steps), ours


def second_question(model: Model) -> tuple[float, float]:
    """Seconds to the first token of a first and of a second question about an image."""
    engine, seconds = engine_of(model), []
    image = picture(WIDTH, HEIGHT)
    for words in ("What is this?", "Where was it taken?"):
        began = time.perf_counter()
        prompt = model.prompt(question(image, Text(words)))
        engine.run([engine.submit(prompt, replace(model.sampling, max_new_tokens=1))])
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def video() -> Pair:
    """32 of 900 frames at 720p, against decoding all of them to RGB first."""
    import av
    import numpy as np

    from onevision.conversation import Video
    from onevision.inputs.video import choose_frames

    path = Path(tempfile.mkdtemp()) / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        base = np.asarray(picture(1280, 720).source)
        for number in range(900):
            frame = av.VideoFrame.from_ndarray(np.roll(base, 4 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    def ours() -> list:
        return [np.asarray(f) for f in choose_frames(Video(path, num_frames=32)).frames()]

    def theirs() -> list:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return [frames[i] for i in np.linspace(0, len(frames) - 1, 32, dtype=int)]

    assert all(np.array_equal(a, b) for a, b in zip(ours(), theirs(), strict=True))
    return theirs, ours


def close(expected: torch.Tensor, found: torch.Tensor, *, tolerance: float) -> None:
    """Refuse to time what does not agree, but for the rounding of bf16 or of int8."""
    apart = (expected.float() - found.float()).abs().mean() / expected.float().abs().mean()
    assert apart < tolerance, f"outputs differ by {float(apart):.1%} on average"


def phases(model: Model, directory: Path, peer: Peer) -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Give every phase of the table."""
    plain, dtype = NAMES[peer.dtype], str(peer.dtype).removeprefix("torch.")

    def of(kind: str) -> Model:
        return load(directory, dtype=dtype, quantize=kind)

    yield "preprocess 1920x1080", lambda: preprocess(model, peer, 1920, 1080)
    yield "preprocess 4032x3024", lambda: preprocess(model, peer, 4032, 3024)
    yield "preprocess 1920x1080 fast", lambda: preprocess(model, peer, 1920, 1080, fast=True)
    yield "video 32 of 900", video
    yield f"decode at 16, {plain}", lambda: decode(model, peer, 16)
    yield "decode at 16, int8", lambda: decode(of("int8"), peer, 16)
    yield "decode at 16, int4", lambda: decode(of("int4"), peer, 16)
    yield f"decode at 6.6k, {plain}", lambda: decode(model, peer, 6585)
    yield "decode at 6.6k, int8", lambda: decode(of("int8"), peer, 6585)
    yield "decode at 6.6k, int4", lambda: decode(of("int4"), peer, 6585)
    yield f"vision, 10 crops, {plain}", lambda: vision(model, peer)
    yield "vision, 10 crops, int8", lambda: vision(of("int8"), peer, tolerance=0.06)
    yield f"prefill, 6,585 tokens, {plain}", lambda: prefill(model, peer)
    yield "prefill, 6,585 tokens, int8", lambda: prefill(of("int8"), peer, tolerance=0.2)
    yield "prefill, 6,585 tokens, int4", lambda: prefill(of("int4"), peer, tolerance=1.0)


@torch.inference_mode()
def measure(name: str, pair: Pair, *, rounds: int, threads: tuple[int, int]) -> dict[str, object]:
    """Let the two take turns, theirs and ours in so many `threads`; report medians, their ratio."""
    alone = threads == (1, 1)
    clock = time.process_time if alone else time.perf_counter
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for own, run, count in zip(seconds, pair, threads, strict=True):
            torch.set_num_threads(count)
            began = clock()
            run()
            own.append(clock() - began)
    theirs, ours = map(median, seconds)
    spread = max((max(own) - min(own)) / median(own) for own in seconds)
    line = {
        "phase": name,
        "theirs_seconds": round(theirs, 4),
        "ours_seconds": round(ours, 4),
        "ratio": round(theirs / ours, 2),
        "clock": "processor" if alone else "wall",
        "threads": threads,
        "spread": round(spread, 2),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)
    return line


MEMORY = """
import sys, torch
torch.set_num_threads(2)
from benchmarks.inference import WIDTH, HEIGHT, picture, question
from onevision import Text, load
from onevision.train.report.metrics import peak_resident_bytes
if sys.argv[2] == "theirs":
    from benchmarks.inference_peer import Peer
    peer = Peer(sys.argv[1], getattr(torch, sys.argv[3]))
    peer.answer(load("tiny"), picture(WIDTH, HEIGHT), tokens=8)
else:
    kind = None if sys.argv[2] in ("plain", "w8a8") else sys.argv[2]
    model = load(sys.argv[1], dtype=sys.argv[3], quantize=kind)
    model.ask(question(picture(WIDTH, HEIGHT), Text("What?")), max_new_tokens=8, end_ids=())
print(peak_resident_bytes() / 2**30)
"""


def memory(directory: Path, dtype: torch.dtype) -> Iterator[dict[str, object]]:
    """Give the peak memory of one answer about an image, each in a process of its own.

    From the checkpoint, quantised at load; and from a W8A8 file of the same weights.
    """
    from benchmarks.peers_world import beside, write_w8a8

    write_w8a8(directory)
    for kind in ("theirs", "plain", "int8", "int8-weights", "int4", "w8a8"):
        path = beside(directory, kind) if kind == "w8a8" else directory
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path), kind, str(dtype).removeprefix("torch.")],
            check=True,
            capture_output=True,
            text=True,
        )
        named = NAMES[dtype] if kind == "plain" else kind
        line = {"phase": f"memory of one answer, {named}", "GiB": round(float(done.stdout), 2)}
        print(json.dumps(line), flush=True)
        yield line


@torch.inference_mode()
def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="phases whose names hold this word")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--neighbour", action="store_true", help="one more busy thread")
    parser.add_argument("--dtype", default="auto", choices=("auto", "bfloat16", "float32"))
    parser.add_argument("--checkpoint", type=Path, help="keep the random weights here")
    parser.add_argument("--output", type=Path, default=RESULTS / "inference-cpu.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    directory = options.checkpoint or Path(tempfile.mkdtemp())
    write_checkpoint(directory)
    model = load(directory, dtype=options.dtype)
    peer = Peer(directory, model.engine.dtype)
    beside, threads = ", beside a neighbour" if options.neighbour else "", options.threads
    with neighbour(is_there=options.neighbour):
        own = choose_threads() if options.neighbour else threads  # as every command does
        lines = [
            measure(name + beside, make(), rounds=options.rounds, threads=(threads, own))
            for name, make in phases(model, directory, peer)
            if options.only in name
        ]
    if options.only in "second question":
        first, second = second_question(model)
        lines.append({"phase": "second question", "first_seconds": round(first, 2),
                      "second_seconds": round(second, 3)})  # fmt: skip
        print(json.dumps(lines[-1]), flush=True)
    if options.only in "memory":
        lines += memory(directory, model.engine.dtype)
    record(lines, options.output)


@contextmanager
def neighbour(*, is_there: bool) -> Iterator[None]:
    """Keep one thread of another process busy meanwhile."""
    spin = [sys.executable, "-c", "while True: pass"]
    process = subprocess.Popen(spin) if is_there else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def record(lines: Iterable[dict[str, object]], path: Path) -> None:
    """Add what was measured to a file of results, phase by phase."""
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= {str(line["phase"]): line for line in lines}
    path.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
