"""Our side of benchmarks/peers.py: our engine answers the lines of integrations/vllm/answer.py.

python -m benchmarks.peers_ours MODEL --dtype bfloat16 --quantize int8
"""

import argparse
import importlib.metadata
import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from onevision import Conversation, Image, Message, Model, Text, Video, load

Question = dict[str, Any]  # Any: JSON


def conversation_of(question: Question) -> Conversation:
    """Return a question as a conversation; media come before the text."""
    media: list[Image | Video] = [Image(path) for path in question.get("images", ())]
    if question.get("frames"):
        media.append(Video([*np.load(question["frames"])]))
    return Conversation([Message("user", [*media, Text(question["text"])])])


def answer(model: Model, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer a batch greedily, to the full length."""
    requests, lengths = [], []
    for question in batch["questions"]:
        sampling = replace(
            model.sampling,
            end_ids=(),
            end_texts=(),
            max_new_tokens=question.get("tokens", batch["tokens"]),
            logprobs=1,
        )
        prompt = model.prompt(conversation_of(question))
        requests.append(model.engine.submit(prompt, sampling))
        lengths.append(prompt.input_ids.shape[1])
    model.engine.run(requests)
    return [
        {
            "text": request.answers[0].whole_text,
            "ids": request.answers[0].ids,
            "logprobs": [token.logprob for token in request.answers[0].tokens],
            "prompt_tokens": length,
        }
        for request, length in zip(requests, lengths, strict=True)
    ]


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantize")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load(options.model, dtype=options.dtype, quantize=options.quantize)
    packages = ("onevision", "torch", "zentorch")
    versions = {name: found for name in packages if (found := version_of(name))}
    first = {"versions": versions, "threads": options.threads, "arithmetic": model.arithmetic}
    print(json.dumps(first), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        answers = answer(model, json.loads(line))
        print(json.dumps({"seconds": time.perf_counter() - began, "answers": answers}), flush=True)


def version_of(name: str) -> str | None:
    """Return the installed version of a package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
