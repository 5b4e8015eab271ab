"""What a judged benchmark is: a generator that asks a judge, and what its scores come to.

A generator asks (`reply = yield query`) and returns its scores, so that one that asks twice reads
like one that asks once; judge.py runs them.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from statistics import fmean

from onevision.eval.judging.client import Query
from onevision.eval.judging.prompts import Item

Scores = dict[str, float]
Case = tuple[tuple[Item, str], ...]  # items that are judged together, with their answers
Asking = Generator[Query, str, Scores]


@dataclass(frozen=True, kw_only=True)
class JudgedBenchmark:
    """How answers are judged, and what their scores come to."""

    judge: Callable[[Case], Asking]
    # Scores of all cases -> figures, the headline among them.
    total: Callable[[Sequence[Scores]], dict[str, float]]
    # The figure that stands for the benchmark.
    headline: str = "score"
    # The item's fields whose values, separated by commas, have a figure of their own.
    groups: tuple[str, ...] = ()
    # FIDELITY: what the reference counts where it cannot read the judge; None where it drops it.
    unread: Scores | None = None
    # What items judged together have in common.
    together: Callable[[Item], object] | None = None


def mean_of(
    score: str, name: str, *, times: float = 1.0, less: float = 0.0
) -> Callable[[Sequence[Scores]], dict[str, float]]:
    """Return what takes the mean of one score of all cases, as the figure `name`."""
    return lambda scores: {name: times * (fmean(one[score] for one in scores) - less)}
