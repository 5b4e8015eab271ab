"""How long does it take to choose a token at random, ours against transformers?

    python -m benchmarks.sampling           a few seconds; one thread

Logits as peaked as a language model's, of vocabularies of SmolLM2 and Qwen2. First that both keep
the same tokens; then the best of 30 turns each, one after the other, from logits to an id.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from onevision.generate.choice import restrict
from onevision.generate.sampler import Sampler, Sampling

TEMPERATURE, TURNS = 0.7, 30
CASES = ({}, {"top_p": 0.9}, {"top_k": 50}, {"top_k": 50, "top_p": 0.9})


def theirs(logits: Tensor, **limits: float) -> Tensor:
    """Return the logits [1, vocab] that transformers samples from."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(TEMPERATURE)])
    if "top_k" in limits:
        warpers.append(TopKLogitsWarper(int(limits["top_k"])))
    if "top_p" in limits:
        warpers.append(TopPLogitsWarper(limits["top_p"]))
    return warpers(torch.zeros(1, 1, dtype=torch.int64), logits[None])


def best(*runs: Callable[[], object]) -> list[float]:
    """Return the milliseconds of the fastest turn of each, in turns."""
    found = [float("inf")] * len(runs)
    for _ in range(TURNS):
        for i, run in enumerate(runs):
            began = time.perf_counter()
            run()
            found[i] = min(found[i], 1000 * (time.perf_counter() - began))
    return found


@torch.inference_mode()
def main() -> None:
    """Print a line for every vocabulary and limit."""
    torch.set_num_threads(1)
    for vocab in (49_152, 151_936):
        logits = 3 * torch.randn(vocab, generator=torch.Generator().manual_seed(0))
        for limits in CASES:
            kept = restrict(logits / TEMPERATURE, **limits).isfinite()
            assert torch.equal(kept, theirs(logits, **limits)[0].isfinite()), "others are kept"
            sampler = Sampler(Sampling(temperature=TEMPERATURE, seed=0, **limits))

            def theirs_whole(logits: Tensor = logits, limits: dict[str, float] = limits) -> None:
                shares = theirs(logits, **limits).softmax(-1)
                int(torch.multinomial(shares, 1))

            ours, other = best(lambda s=sampler, x=logits: s.sample(x), theirs_whole)
            print(
                f"{vocab:,} tokens, {limits or 'temperature alone'}: {int(kept.sum())} kept, "
                f"{ours:.2f} ms, transformers {other:.2f} ms: {other / ours:.1f}x"
            )


if __name__ == "__main__":
    main()
