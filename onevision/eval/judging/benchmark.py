"""What a judged benchmark is: a generator that queries a judge, and how its scores are aggregated.

The generator yields queries, receives replies and returns scores, so that a benchmark with several
queries per answer reads like one with a single query; run.py drives it.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from onevision.eval.judging.client import Query
from onevision.eval.judging.parse import UnreadableReplyError
from onevision.eval.scoring.scorer import Item, Unit

Parsed = TypeVar("Parsed")

Scores = dict[str, float]
# Items that are judged together, each with the answer to it; one for most benchmarks.
JudgedCase = tuple[tuple[Item, str], ...]
Dialogue = Generator[Query, str, Scores]


@dataclass(frozen=True, kw_only=True)
class JudgedBenchmark:
    """How answers are judged, and how their scores are aggregated."""

    judge: Callable[[JudgedCase], Dialogue]
    # Scores of all cases -> metrics, the headline among them.
    aggregate: Callable[[Sequence[Scores]], dict[str, float]]
    headline: str = "score"
    unit: Unit = "percent"
    # Fields of an item; each of their values, separated by commas, gets a metric of its own.
    breakdown: tuple[str, ...] = ()
    # Whether the judge is shown the item's images.
    sees_images: bool = False
    # FIDELITY: the scores that the reference assumes for an unreadable reply; None if it drops it.
    unreadable_scores: Scores | None = None
    # Items with equal keys are judged together.
    case_key: Callable[[Item], object] | None = None


def ask_until_readable(
    query: Query, parse: Callable[[str], Parsed], *, temperatures: Sequence[float]
) -> Generator[Query, str, Parsed]:
    """Repeats a query at each temperature in turn until its reply can be parsed.

    Raises UnreadableReplyError if the last reply cannot be parsed either.
    """
    for temperature in temperatures[:-1]:
        reply = yield replace(query, temperature=temperature)
        try:
            return parse(reply)
        except UnreadableReplyError:
            continue
    return parse((yield replace(query, temperature=temperatures[-1])))
