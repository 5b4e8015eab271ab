"""OpenVINO GenAI's side of benchmarks/peers.py; runs where OpenVINO GenAI is installed.

    ENVIRONMENT/bin/python benchmarks/peers_openvino.py DIRECTORY --precision bf16

DIRECTORY is what `optimum-cli export openvino` wrote. Lines are those of
integrations/vllm/answer.py, with whole prompts in "prompt"; each question is answered alone, to the
full length. It tells no ids and no probabilities.
"""

import argparse
import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import openvino
    import openvino_genai

    pipeline = openvino_genai.VLMPipeline(
        options.model,
        "CPU",
        INFERENCE_PRECISION_HINT=options.precision,
        INFERENCE_NUM_THREADS=options.threads,
    )
    versions = {"openvino": openvino.__version__, "openvino-genai": openvino_genai.__version__}
    out.write(json.dumps({"versions": versions, "threads": options.threads}) + "\n")
    for line in sys.stdin:
        batch = json.loads(line)
        began = time.perf_counter()
        answers = [answer(pipeline, one, batch["tokens"]) for one in batch["questions"]]
        seconds = time.perf_counter() - began
        out.write(json.dumps({"seconds": seconds, "answers": answers}) + "\n")


def answer(pipeline: Any, question: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Answer one question greedily."""
    import numpy as np
    import openvino
    import openvino_genai
    from PIL import Image

    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in question["images"]]
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = question.get("tokens", tokens)
    config.ignore_eos = True
    config.do_sample = False
    config.apply_chat_template = False
    tensors = [openvino.Tensor(picture) for picture in pictures]
    result = pipeline.generate(question["prompt"], images=tensors, generation_config=config)
    metrics = result.perf_metrics
    return {"text": result.texts[0], "prompt_tokens": metrics.get_num_input_tokens()}


if __name__ == "__main__":
    main()
