"""Logits -> the tokens that may come next, and one of them at random.

For each answer in each step, over a vocabulary of up to 152 thousand: what takes milliseconds here
would be most of a small model's step.
"""

import math

import torch
from torch import Tensor

# How many of the likeliest tokens are looked at for top-p before all are sorted.
FEW = (512, 8192)


def restrict(logits: Tensor, *, top_k: int = 0, min_p: float = 0.0, top_p: float = 1.0) -> Tensor:
    """Returns `logits` [vocab] with -inf for tokens that top-k, min-p or top-p rule out.

    In this order, each of the tokens that are left. 0, 0 and 1 rule out none.
    """
    if top_k:
        least = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, -math.inf)
    if min_p:
        least = logits.max() + math.log(min_p)
        logits = logits.masked_fill(logits < least, -math.inf)
    return logits if top_p == 1 else _keep_likeliest(logits, top_p)


def _keep_likeliest(logits: Tensor, top_p: float) -> Tensor:
    """Keeps the likeliest tokens that together have the probability `top_p`; always one.

    A token is kept if those before it have less (nucleus sampling, arXiv 1904.09751).
    """
    total = logits.logsumexp(-1)
    for count in (*FEW, len(logits)):
        ranked, ids = logits.topk(min(count, len(logits)))
        shares = (ranked - total).exp()
        sums = shares.cumsum(-1, dtype=torch.float64)
        if sums[-1] >= top_p:
            break
    kept = sums - shares < top_p
    kept[0] = True  # a top_p that rounds to 0 keeps the likeliest
    ids = ids[kept]
    return torch.full_like(logits, -math.inf).index_copy_(0, ids, logits[ids])


def draw(shares: Tensor, *, generator: torch.Generator | None) -> int:
    """Returns the place of a number drawn from probabilities `shares` [n]: the first in a race.

    Each waits for a time from an exponential distribution with its probability as the rate (the
    Gumbel-max trick), so that two distributions that are near give the same place for the same
    random numbers. Raises RuntimeError for NaN.
    """
    # 53 random bits: the least of 24 would never let a token win whose probability is below 2^-24.
    # `torch.multinomial` runs the same race, and takes twice as long for its random numbers.
    waits = torch.rand(len(shares), dtype=torch.float64, generator=generator).log_().neg_()
    speeds = shares / waits.float()
    first = int(speeds.argmax())
    if not speeds[first] > 0:
        raise RuntimeError("the probabilities of tokens are NaN")
    return first
