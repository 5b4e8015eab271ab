"""How near does the engine come to what a GPU can do?

    python -m benchmarks.gpu                            0.5B and 7B shapes, random weights, bf16
    python -m benchmarks.gpu --quantize int8            its weights in fewer bits
    python -m benchmarks.gpu --device cpu --shapes tiny     does it run?

Peaks are measured in the same run: a square product of bf16, and a copy of a large tensor (bytes
read and written). Each figure is the median of `--rounds` turns, the device awaited: decoding for 1
and 32 answers replayed as a CUDA graph (the share of the bandwidth that weights, keys and values
take in bf16, also of quantised ones), vision and prefill (the share of the product's peak), a
picture to its first token; then that steps replayed and not say the same, and decoding without
graphs, fewer steps, since it is slow.
Results: benchmarks/results/gpu.json, written anew after every line, so that a run cut short keeps
what it has.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.growth import decoding, operations, step_bytes, vision_operations
from benchmarks.inference import HEIGHT, RESULTS, WIDTH, engine_of, picture, question
from onevision import Text
from onevision.accelerate.apply import accelerate
from onevision.accelerate.quantize import QUANTIZED
from onevision.checkpoint.hub import BUNDLED
from onevision.config import ModelConfig
from onevision.generate.answer import Model
from onevision.generate.sampler import Sampling
from onevision.generate.settings import EngineSettings
from onevision.inputs.processor import Processor
from onevision.inputs.tokenizer import Tokenizer
from onevision.known_models import ARCHITECTURES
from onevision.model.llava import LlavaNetwork

STEPS, PLAIN_STEPS = 32, 8  # of decoding, a turn: replayed, and not
SIDE = 8192  # of the matrices whose product is the peak
COPIED = 2**30  # bytes of the tensor whose copy is the bandwidth


def random_model(config: ModelConfig, *, device: str, quantize: str | None = None) -> Model:
    """Return a model of random bf16 weights, made on the device, quantised or not."""
    with torch.device("meta"):
        network = LlavaNetwork(config).to(torch.bfloat16)
    network = network.to_empty(device=device).eval()
    for name, parameter in network.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.02)
    tokenizer = Tokenizer.from_directory(BUNDLED["tiny"])
    accelerated = accelerate(network, quantize=quantize)
    return Model(
        network=accelerated.network,
        arithmetic=accelerated.arithmetic,
        processor=Processor(config.inputs, tokenizer),
        config=config,
        sampling=Sampling(end_ids=()),
        settings=EngineSettings(),
    )


class Clock:
    """Seconds of what a device does."""

    def __init__(self, device: str, rounds: int) -> None:
        self.device, self.rounds = device, rounds

    def __call__(self, run: Callable[[], object]) -> float:
        """Return the median of some turns, after one that does not count."""
        run()
        seconds = []
        for _ in range(self.rounds):
            self._wait()
            began = time.perf_counter()
            run()
            self._wait()
            seconds.append(time.perf_counter() - began)
        return median(seconds)

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


def peaks(clock: Clock) -> dict[str, float]:
    """Measure operations and bytes a second."""
    small = not clock.device.startswith("cuda")
    side, copied = (1024, 2**26) if small else (SIDE, COPIED)
    square = torch.randn(side, side, device=clock.device).to(torch.bfloat16)
    source = torch.zeros(copied, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    return {
        "operations": 2 * side**3 / clock(lambda: square @ square),
        "bytes": 2 * copied / clock(lambda: target.copy_(source)),
    }


def measure(model: Model, clock: Clock, peak: dict[str, float]) -> Iterator[dict[str, object]]:
    """Give every figure of a shape."""
    for answers in (1, 32):
        yield _decode(model, clock, peak, answers=answers, graphs=True)
    talk = question(picture(WIDTH, HEIGHT), Text("What is this?"))
    prompt = model.prompt(talk)
    pixels = prompt.pixel_values.to(clock.device, torch.bfloat16)
    cache = engine_of(model).prefiller.vision_cache
    owners = [owner for layout in prompt.layouts for owner in layout.owners]
    cache.encode_crops(pixels, owners)  # the next is recorded
    seconds = clock(lambda: cache.encode_crops(pixels, owners))
    done = vision_operations(model.config, len(pixels))
    yield _share("vision", done, seconds, peak) | {"crops": len(pixels)}
    tokens = torch.randn(
        int(prompt.visual_mask.sum()), model.config.language.hidden_size, device=clock.device
    ).to(torch.bfloat16)

    # Nothing is remembered but what was recorded.
    engine = engine_of(model, prefix_cache=False, encoder_bytes=0)

    def prefill() -> None:
        request = engine.submit(prompt, replace(model.sampling, max_new_tokens=1))
        request.media[0].tokens = tokens
        engine.run([request])

    seconds = clock(prefill)
    done = operations(model, prompt) - done
    yield _share("prefill", done, seconds, peak) | {"tokens": prompt.input_ids.shape[1]}

    def first() -> None:
        asked = replace(model.sampling, max_new_tokens=1)
        engine.run([engine.submit(model.prompt(talk), asked)])

    first()  # the next is recorded
    yield {"phase": "picture to first token", "seconds": round(clock(first), 4)}
    yield {"phase": "logits, replayed or not", "apart": replay_error(model)}
    for answers in (1, 32):
        yield _decode(model, clock, peak, answers=answers, graphs=False)


def _decode(
    model: Model, clock: Clock, peak: dict[str, float], *, answers: int, graphs: bool
) -> dict[str, object]:
    contexts, steps = [512] * answers, STEPS if graphs else PLAIN_STEPS
    engine = decoding(model, contexts, cuda_graphs=graphs)

    def run() -> None:
        for _ in range(steps):
            engine.step()

    seconds = clock(run) / steps
    return {
        "phase": f"decode, {answers} at once" + ("" if graphs else ", no CUDA graph"),
        "milliseconds_per_step": round(1000 * seconds, 3),
        "tokens_per_second": round(answers / seconds, 1),
        "share_of_bandwidth": round(step_bytes(model, contexts) / seconds / peak["bytes"], 3),
    }


def replay_error(model: Model) -> float:
    """Return how far apart, at most, logits of a step are that is replayed and one that is not.

    As a share of the largest; the same three answers take twelve steps both ways.
    """
    rows: list[list[torch.Tensor]] = []
    for graphs in (True, False):
        torch.manual_seed(0)  # of the contexts
        engine = decoding(model, (40, 300, 130), cuda_graphs=graphs)
        rows.append([])
        for number in range(12):
            answers = [(request, request.answers[0]) for request in engine.scheduler.running]
            for step, logits in engine.batch_decoder.step(answers):
                step.answer.ids.append(1000 + number)  # whatever was said, both go on alike
                rows[-1].append(logits.float().clone())
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*rows, strict=True))


def _share(phase: str, done: float, seconds: float, peak: dict[str, float]) -> dict[str, object]:
    return {
        "phase": phase,
        "seconds": round(seconds, 4),
        "tflops_per_second": round(done / seconds / 1e12, 3),
        "share_of_peak": round(done / seconds / peak["operations"], 3),
    }


@torch.inference_mode()
def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="+", choices=ARCHITECTURES, default=["0.5b", "7b"])
    parser.add_argument("--quantize", choices=QUANTIZED)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --device cpu --shapes tiny tries the program")
    began = time.perf_counter()
    clock = Clock(options.device, options.rounds)
    peak = peaks(clock)
    on_gpu = options.device.startswith("cuda")
    device = torch.cuda.get_device_name(options.device) if on_gpu else options.device
    found: dict[str, object] = {"device": device, "torch": torch.__version__, "peak": peak}
    print(json.dumps(found), flush=True)
    for shape in options.shapes:
        config, kind = ARCHITECTURES[shape], options.quantize
        model = random_model(config, device=options.device, quantize=kind)
        shape = f"{shape} in {model.arithmetic}" if kind else shape
        found[shape] = lines = list[dict[str, object]]()
        for line in measure(model, clock, peak):
            lines.append(line | {"after_seconds": round(time.perf_counter() - began, 1)})
            print(json.dumps({"shape": shape} | lines[-1]), flush=True)
            options.output.write_text(json.dumps(found, indent=1) + "\n")
        del model


if __name__ == "__main__":
    main()
