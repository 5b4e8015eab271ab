"""What does company cost? 16 requests at once against one after another; and the modes' price.

    python -m benchmarks.company --only at-once --workload A     against transformers
    python -m benchmarks.company --only at-once --whole     A and B, theirs whole
    python -m benchmarks.company --only mode     the deterministic mode, guesses (3 minutes)

The model and its results' file are those of `benchmarks.inference`. Workloads were fixed before
tuning. All 16 of ours are timed, plain and in int8. Theirs are answered one after another: every
fourth is timed, a quarter of each size, and the seconds are multiplied by four; `--whole` times
them all.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.inference import NAMES, RESULTS, engine_of, picture, question, record
from benchmarks.inference_peer import Peer, write_checkpoint
from onevision import Conversation, Text, load
from onevision.generate.answer import Model
from onevision.generate.request import Request


def concurrent(
    models: Mapping[str, Model], peer: Peer, *, workloads: str, every: int
) -> Iterator[dict[str, object]]:
    """Give the time of 16 requests at once by each model, against transformers one after another.

    A: distinct images of 640 x 480, caches cold, 64 tokens each. B: one image in eight questions of
    64 tokens, and eight prompts of words alone with 256 tokens. Of theirs one in `every` is timed.
    """
    own = [question(picture(640, 480, seed), Text("Describe it.")) for seed in range(16)]
    shared = [question(picture(640, 480), Text(f"What is number {n}?")) for n in range(8)]
    words = [question(Text(f"Tell me about number {n}.")) for n in range(8)]
    both = {
        "A": [(talk, 64) for talk in own],
        "B": [*((talk, 64) for talk in shared), *((talk, 256) for talk in words)],
    }
    for name, talks in ((name, both[name]) for name in workloads):
        began = time.perf_counter()
        for talk, tokens in talks[::every]:
            peer.answer_talk(next(iter(models.values())), talk, tokens=tokens)
        theirs = (time.perf_counter() - began) * every
        for kind, model in models.items():
            ours = _seconds_at_once(model, talks)
            line = {
                "phase": f"16 at once, {name}, {kind}",
                "theirs_seconds": round(theirs, 1),
                "theirs_timed": len(talks[::every]),
                "ours_seconds": round(ours, 1),
                "ratio": round(theirs / ours, 2),
                "load": round(os.getloadavg()[0], 1),
            }
            print(json.dumps(line), flush=True)
            yield line


def _seconds_at_once(model: Model, talks: list[tuple[Conversation, int]]) -> float:
    began = time.perf_counter()
    engine = engine_of(model)
    requests: list[Request] = []
    for talk, tokens in talks:
        sampling = replace(model.sampling, end_ids=(), max_new_tokens=tokens)
        requests.append(engine.submit(model.prompt(talk), sampling))
    engine.run(requests)
    return time.perf_counter() - began


def modes(model: Model) -> Iterator[dict[str, object]]:
    """Give the time of the same requests in the default and in another mode.

    Four questions about images of 640 x 480 with 32 tokens each, and eight answers of 128 tokens to
    words. Guesses: one answer of 256 tokens, greedy; random weights soon repeat themselves, which
    flatters guesses.
    """
    images = [question(picture(640, 480, seed), Text("Describe it.")) for seed in range(4)]
    words = [question(Text(f"Tell me about number {n}.")) for n in range(8)]
    for name, talks, settings in (
        ("deterministic, images", [(talk, 32) for talk in images], {"deterministic": True}),
        ("deterministic, words", [(talk, 128) for talk in words], {"deterministic": True}),
        ("guesses, one answer", [(words[0], 256)], {"draft_tokens": 8}),
    ):
        seconds, texts = [], []
        for own in ({}, settings, {}, settings):
            began = time.perf_counter()
            texts.append(_answers(model, talks, own))
            seconds.append(time.perf_counter() - began)
        default, other = min(seconds[::2]), min(seconds[1::2])
        line = {
            "phase": f"mode: {name}",
            "default_seconds": round(default, 2),
            "seconds": round(other, 2),
            "ratio": round(default / other, 2),
            "same_answers": sum(map(str.__eq__, texts[0], texts[1])),
            "answers": len(talks),
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(line), flush=True)
        yield line


def _answers(
    model: Model, talks: list[tuple[Conversation, int]], settings: dict[str, object]
) -> list[str]:
    engine = engine_of(model, **settings)
    requests = [
        engine.submit(model.prompt(talk), replace(model.sampling, end_ids=(), max_new_tokens=n))
        for talk, n in talks
    ]
    engine.run(requests)
    return [request.answers[0].text for request in requests]


@torch.inference_mode()
def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("at-once", "mode"), help="one of the two")
    parser.add_argument("--workload", choices=("A", "B", "AB"), default="AB")
    parser.add_argument("--whole", action="store_true", help="time all 16 of theirs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path, help="keep the random weights here")
    parser.add_argument("--output", type=Path, default=RESULTS / "inference-cpu.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    directory = options.checkpoint or Path(tempfile.mkdtemp())
    write_checkpoint(directory)
    model = load(directory)
    if options.only != "at-once":
        record(modes(model), options.output)
    if options.only != "mode":
        peer, every = Peer(directory, model.engine.dtype), 1 if options.whole else 4
        models = {NAMES[peer.dtype]: model, "int8": load(directory, quantize="int8")}
        lines = concurrent(models, peer, workloads=options.workload, every=every)
        record(lines, options.output)


if __name__ == "__main__":
    main()
