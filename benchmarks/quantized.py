"""What do smaller weights cost in accuracy? int8 and int4 against the same model as it was.

    python -m benchmarks.quantized                      both
    python -m benchmarks.quantized --only questions     the embedded tiny alone

`questions`: the embedded tiny answers `--count` held-out questions a scenario with each kind of
weights: accuracy in percent, and how many answers are word for word those of whole weights.
`logits`: what tiny and a random model of the 0.5B shape say next at 1,024 places of random ids: how
often the likeliest token is the same as in bf16, and how far probabilities move (Kullback-Leibler,
nats).
Random weights tell tokens apart by less than trained ones do.
Writes benchmarks/results/quantized-cpu.json.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.inference import NAMES, RESULTS
from benchmarks.inference_peer import write_checkpoint
from onevision import load
from onevision.accelerate.quantize import QUANTIZED
from onevision.accelerate.stored_embedding import StoredEmbedding
from onevision.eval.heldout import NUM_QUESTIONS, SCENARIOS, run_heldout

Line = dict[str, object]


def questions(count: int) -> list[Line]:
    """Ask the embedded tiny; give a line a kind of weights and scenario."""
    lines: list[Line] = []
    whole: dict[str, tuple[str, ...]] = {}
    for kind in (None, *QUANTIZED):
        model = load("tiny", quantize=kind)
        name = kind or NAMES[model.engine.dtype]
        for scenario in SCENARIOS:
            result = run_heldout(model, scenario, count=count)
            same = map(str.__eq__, result.answers, whole.setdefault(scenario, result.answers))
            lines.append({
                "weights": name, "scenario": scenario, "questions": count,
                "accuracy": round(100 * result.accuracy, 1), "same_answers": sum(same),
            })  # fmt: skip
            print(json.dumps(lines[-1]), flush=True)
    return lines


@torch.inference_mode()
def logits(name: str, directory: str | Path, num_rows: int, length: int) -> list[Line]:
    """Compare what a model says next with each kind of weights, at every place of random rows."""
    expected: torch.Tensor | None = None
    lines: list[Line] = []
    for kind in (None, *QUANTIZED):
        decoder = load(directory, dtype="bfloat16", quantize=kind).network.language_model
        generator = torch.Generator().manual_seed(0)
        most = (
            len(decoder.embedding.rows[0]) if isinstance(decoder.embedding, StoredEmbedding) else 0
        )
        ids = torch.randint(10, most, (num_rows, length), generator=generator)
        hidden = decoder(decoder.embedding(ids), torch.arange(length).expand_as(ids))
        found = decoder.head(hidden).float().log_softmax(-1)
        expected = found if expected is None else expected
        apart = (expected.exp() * (expected - found)).sum(-1)
        lines.append({
            "model": name, "weights": kind or "bf16", "places": ids.numel(),
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
        directory = Path(tempfile.mkdtemp())
        write_checkpoint(directory)
        found["logits"] = logits("tiny", "tiny", 16, 64) + logits("0.5B", directory, 16, 64)
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
