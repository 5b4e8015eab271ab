"""What do smaller weights cost in accuracy? int8 and int4 against the same model as it was.

    python -m benchmarks.quantized                      both
    python -m benchmarks.quantized --only questions     the embedded tiny alone

`questions`: the embedded tiny answers `--count` held-out questions a scenario with each kind of
weights: accuracy in percent, and how many answers are word for word those of whole weights. Prompts
are read with whole weights, as always, which give the first token of an answer too; and, `reads`,
with the smaller ones, as nobody does, since the tiny's answers are hardly longer than a token.
`logits`: of a random model of the 0.5B shape, whose language model reads random ids with each kind:
how often the likeliest token is the same, and how far probabilities move (Kullback-Leibler, nats).
Random weights tell tokens apart by less than trained ones do.
Writes benchmarks/results/quantized-cpu.json.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.inference import NAMES, RESULTS
from benchmarks.inference_peer import write_checkpoint
from onevision import load
from onevision.accelerate.quantize import QUANTIZED
from onevision.eval.heldout import NUM_QUESTIONS, SCENARIOS, run_heldout

Line = dict[str, object]


def questions(count: int) -> list[Line]:
    """Ask the embedded tiny; give a line a kind of weights and scenario."""
    lines: list[Line] = []
    whole: dict[str, tuple[str, ...]] = {}
    for kind, reads in ((None, False), *itertools.product(QUANTIZED, (False, True))):
        model = load("tiny", quantize=kind)
        if reads and model.decode_model is not None:
            model.network.language_model = model.decode_model
        name = kind or NAMES[model.engine.dtype]
        for scenario in SCENARIOS:
            result = run_heldout(model, scenario, count=count)
            same = map(str.__eq__, result.answers, whole.setdefault(scenario, result.answers))
            lines.append({
                "weights": name, "reads": reads, "scenario": scenario, "questions": count,
                "accuracy": round(100 * result.accuracy, 1), "same_answers": sum(same),
            })  # fmt: skip
            print(json.dumps(lines[-1]), flush=True)
    return lines


@torch.inference_mode()
def logits(num_rows: int, length: int) -> list[Line]:
    """Compare what a random model of the 0.5B shape says next, at every place of random rows."""
    directory = Path(tempfile.mkdtemp())
    write_checkpoint(directory)
    ids = torch.randint(10, 150_000, (num_rows, length), generator=torch.Generator().manual_seed(0))
    places = torch.arange(length).expand_as(ids)
    lines: list[Line] = []
    for kind in QUANTIZED:
        model = load(directory, quantize=kind)
        assert model.decode_model is not None
        expected, found = (
            decoder.head(decoder(decoder.embedding(ids), places)).float().log_softmax(-1)
            for decoder in (model.network.language_model, model.decode_model)
        )
        apart = (expected.exp() * (expected - found)).sum(-1)
        lines.append({
            "weights": kind, "places": ids.numel(),
            "same_likeliest": float((expected.argmax(-1) == found.argmax(-1)).float().mean()),
            "divergence": float(apart.mean()),
        })  # fmt: skip
        print(json.dumps(lines[-1]), flush=True)
    return lines


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("questions", "logits"), help="one of the two")
    parser.add_argument("--count", type=int, default=NUM_QUESTIONS, help="questions a scenario")
    parser.add_argument("--output", type=Path, default=RESULTS / "quantized-cpu.json")
    options = parser.parse_args()
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    if options.only != "logits":
        found["questions"] = questions(options.count)
    if options.only != "questions":
        found["logits"] = logits(8, 64)
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
