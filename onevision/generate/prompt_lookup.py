"""Guesses of what comes next, read off the prompt: answers often repeat what they are about.

A guess costs one more row in a pass that is bound by reading weights, and is kept only where the
model itself says the same, so greedy answers stay what they are.
"""

from collections.abc import Sequence

# The longest run of last tokens that is looked for, and the shortest that is trusted.
LONGEST, SHORTEST = 4, 2


def guess(ids: Sequence[int], count: int) -> list[int]:
    """Return up to `count` tokens that followed the latest earlier place that ends as `ids` do."""
    for length in range(min(LONGEST, len(ids) - 1), SHORTEST - 1, -1):
        tail = list(ids[-length:])
        for begin in range(len(ids) - length - 1, -1, -1):
            if ids[begin] == tail[0] and list(ids[begin : begin + length]) == tail:
                return list(ids[begin + length : begin + length + count])
    return []
