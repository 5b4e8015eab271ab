"""How many tokens that a draft model guesses does the model generate itself?

    python -m benchmarks.drafts               the embedded tiny, 20 pictures, three drafts
    python -m benchmarks.drafts --count 100

Each draft is made of tiny: 4-bit weights, and one and two language blocks fewer, untrained. The
pictures are of the held-out set. Answers are compared with those without a draft, greedy and at
temperature 1, and must be the same; then the share of accepted guesses and the tokens per pass of
the model are printed. Tiny on a CPU gains no time: its passes are calls, not arithmetic. Writes
benchmarks/results/drafts.json.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.inference import RESULTS
from onevision import Conversation, Message, Text, load
from onevision.checkpoint.hub import resolve
from onevision.checkpoint.load import inspect, load_network
from onevision.checkpoint.save import save
from onevision.eval.heldout import heldout_questions
from onevision.generate.answer import Model
from onevision.model.llava import LlavaNetwork

WAYS = {"greedy": {}, "temperature 1": {"temperature": 1.0, "seed": 0}}
WORDS = "Describe the picture in detail."


def shorten(model: Model, place: Path, *, fewer: int) -> Path:
    """Write tiny with so many of its last language blocks left out."""
    whole = load_network(inspect(resolve("tiny")), dtype=torch.float32)
    language = model.config.language
    language = replace(language, num_layers=language.num_layers - fewer)
    config = replace(model.config, language=language)
    network = LlavaNetwork(config)
    tensors = whole.state_dict()
    network.load_state_dict({name: tensors[name] for name in network.state_dict()})
    save(network, config, model.processor.tokenizer, place)
    return place


def answers(model: Model, talks: list[Conversation], **options: object) -> tuple[list, int, int]:
    """Return the ids of each answer, and how many tokens were guessed and accepted."""
    engine = model.new_engine()
    sampling = replace(model.sampling, max_new_tokens=48, **options)
    requests = [engine.submit(model.prompt(talk), sampling) for talk in talks]
    engine.run(requests)
    stats = engine.stats
    ids = [request.answers[0].ids for request in requests]
    return ids, stats.drafted_tokens, stats.accepted_tokens


def main() -> None:
    """Ask with every draft; print and write a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    count = parser.parse_args().count
    model = load("tiny")
    talks = [
        Conversation([Message("user", [*asked.media, Text(WORDS)])])
        for asked in heldout_questions("single_image", count=count)
    ]
    lines = list[dict[str, object]]()
    with tempfile.TemporaryDirectory() as folder:
        drafts = {"tiny in 4 bits": load("tiny", quantize="int4")}
        for fewer in (1, 2):
            place = shorten(model, Path(folder) / str(fewer), fewer=fewer)
            drafts[f"tiny less {fewer} of 6 blocks"] = load(place)
        for way, options in WAYS.items():
            plain = answers(model, talks, **options)[0]
            for name, draft in drafts.items():
                ids, drafted, accepted = answers(replace(model, draft=draft), talks, **options)
                tokens = sum(map(len, ids))
                lines.append(
                    {
                        "draft": name, "way": way, "tokens": tokens,
                        "same": sum(a == b for a, b in zip(plain, ids, strict=True)) / len(ids),
                        "accepted": round(accepted / drafted, 3),
                        "tokens per pass": round(tokens / (tokens - accepted), 2),
                    }
                )  # fmt: skip
                print(lines[-1], flush=True)
    (RESULTS / "drafts.json").write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
