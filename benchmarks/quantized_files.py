"""What do quantised files cost in accuracy? Plain rounding and calibrated, against the model.

    python -m benchmarks.quantized_files                             the embedded tiny, four files
    python -m benchmarks.quantized_files --model DIR --no-questions  another model: next tokens

Each file is written by the function behind `onevision quantize`, calibrated on the embedded demo.
Held-out questions are asked of the loaded file: accuracy in percent, and how many answers are word
for word those of the model. Next tokens are those of the right answers to held-out questions, which
calibration has not seen: mean Kullback-Leibler divergence in nats, and the share of equal likeliest
tokens. Writes benchmarks/results/quantized-files.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.inference import RESULTS
from onevision import Conversation, Message, Text, load
from onevision.batch import ModelInputs
from onevision.checkpoint.hub import resolve
from onevision.checkpoint.load import inspect, load_network, load_tokenizer
from onevision.eval.heldout import SCENARIOS, heldout_questions, run_heldout
from onevision.inputs.chat import IGNORE
from onevision.inputs.processor import Processor
from onevision.quantization.quantize import QuantizeConfig
from onevision.quantization.rounding import SCHEMES
from onevision.quantization.run import quantize_model

Line = dict[str, object]


def main() -> None:
    """Quantise in four ways; print and write a line each."""
    arguments = read_arguments()
    lines = list(measure(arguments.model, arguments))
    path = RESULTS / "quantized-files.json"
    path.write_text(json.dumps(lines, indent=1) + "\n")
    print(path)


def measure(name: str, arguments: argparse.Namespace) -> Iterator[Line]:
    """Yield a line for the model itself and for each file."""
    samples = list(answers_of(name, arguments.places))
    before = list(next_tokens(name, samples))
    asked = ask(name, arguments.count) if arguments.questions else {}
    yield show(Line(weights="as they are", **accuracies(asked, asked)))
    for scheme in SCHEMES:
        for rescale in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "model"
                begin = time.monotonic()
                config = QuantizeConfig(
                    scheme=SCHEMES[scheme], rescale=rescale, max_error=arguments.max_error
                )
                done = quantize_model(name, out, config)
                seconds = time.monotonic() - begin
                kl, same = compare(before, next_tokens(out, samples))
                answers = ask(out, arguments.count) if arguments.questions else {}
                kept = sum(bool(group.kept) for group in done.groups)
                yield show(Line(
                    weights=scheme, rescaled=rescale, seconds=round(seconds, 1), kept=kept,
                    mib=round(done.num_bytes / 2**20, 1), places=sum(map(len, before)),
                    kl=round(kl, 5), same_tokens=round(same, 4), **accuracies(answers, asked),
                ))  # fmt: skip


def ask(name: str | Path, count: int) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Ask held-out questions; return accuracy and answers by scenario."""
    model = load(name)
    results = {scenario: run_heldout(model, scenario, count=count) for scenario in SCENARIOS}
    return {key: (one.accuracy, one.answers) for key, one in results.items()}


def accuracies(found: dict, asked: dict) -> Line:
    """Return accuracy in percent and equal answers by scenario."""
    line: Line = {}
    for scenario, (accuracy, answers) in found.items():
        line[scenario] = round(100 * accuracy, 1)
        line[f"{scenario}_same"] = sum(map(str.__eq__, answers, asked[scenario][1]))
    return line


def answers_of(name: str, count: int) -> Iterator[tuple[ModelInputs, Tensor]]:
    """Yield held-out questions with their right answers, and the places that predict them."""
    info = inspect(resolve(name))
    processor = Processor(info.config.inputs, load_tokenizer(info))
    questions = [heldout_questions(scenario) for scenario in SCENARIOS]
    for source in cycle(questions):
        item = next(source)
        content = [*item.media, Text(item.question.question)]
        answer = Message("assistant", [Text(item.question.answer)])
        example = processor.example(Conversation([Message("user", content), answer]))
        places = (example.labels[1:] != IGNORE).nonzero()[:, 0][:count]
        yield processor.inputs(example), places
        count -= len(places)
        if not count:
            return


@torch.inference_mode()
def next_tokens(name: str | Path, samples: list[tuple[ModelInputs, Tensor]]) -> Iterator[Tensor]:
    """Yield log-probabilities [P, vocab] of the next tokens of each sample."""
    network = load_network(inspect(resolve(name)), dtype=torch.bfloat16)
    for inputs, places in samples:
        visual = network.encode(inputs.pixel_values, inputs.layouts)
        hidden = network.run(network.place(inputs.input_ids, inputs.visual_mask, visual))[0]
        yield network.head(hidden[places]).float().log_softmax(-1)


def compare(before: list[Tensor], after: Iterator[Tensor]) -> tuple[float, float]:
    """Return the mean divergence in nats, and the share of equal likeliest tokens."""
    pairs = [(old, new[:, : old.shape[1]]) for old, new in zip(before, after, strict=True)]
    divergences = torch.cat([(old.exp() * (old - new)).sum(-1) for old, new in pairs])
    equal = torch.cat([(old.argmax(-1) == new.argmax(-1)).float() for old, new in pairs])
    return float(divergences.mean()), float(equal.mean())


def show(line: Line) -> Line:
    """Print a line."""
    print(json.dumps(line), flush=True)
    return line


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--count", type=int, default=600, help="held-out questions a scenario")
    parser.add_argument("--places", type=int, default=1000, help="next tokens to compare")
    parser.add_argument("--max-error", type=float)
    parser.add_argument("--questions", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
