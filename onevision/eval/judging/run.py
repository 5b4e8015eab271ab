"""Items + answers + a judge -> a verdict per item -> the benchmark's metrics.

An unreadable reply is counted and left out of the means, never guessed. If the reference assumes a
score in its place, the headline is given both ways.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from onevision.endpoint import RefusedQueryError
from onevision.errors import InputError, MediaError
from onevision.eval.judging.benchmark import Dialogue, JudgedBenchmark, JudgedCase, Scores
from onevision.eval.judging.judge import Judge
from onevision.eval.judging.parse import UnreadableReplyError
from onevision.eval.judging.registry import find_judged_benchmark
from onevision.eval.scoring.scorer import Item
from onevision.plural import counted

log = logging.getLogger(__name__)


class Verdict(TypedDict):
    """What a judge found about an answer, as JSON holds it."""

    # Empty if the reply is unreadable, and for an item judged together with an earlier one.
    scores: Scores
    # Why there is no score, with the beginning of the reply; None if there is one.
    unreadable: str | None
    # The breakdown groups that the item counts in, as "field/value".
    groups: list[str]
    # The index of the item that holds this one's verdict; None for most.
    judged_with: int | None


@dataclass(frozen=True, kw_only=True)
class JudgedMetrics:
    """What verdicts amount to."""

    metrics: dict[str, float]  # empty if no reply is readable
    headline: str  # the metric that stands for the benchmark
    num_judged: int
    num_unreadable: int


def judge_answers(
    judge_id: str,
    items: Sequence[Item],
    answers: Sequence[str],
    judge: Judge,
    *,
    round_number: int = 0,
) -> list[Verdict]:
    """Judges the answers to a benchmark's items; returns a verdict per item, in order.

    `judge_id` is a key of registry.py; items are rows of the data set, with its field names. Raises
    InputError for an unknown id, DataError for an item that lacks a field, JudgeError if the judge
    cannot be asked.
    """
    benchmark = find_judged_benchmark(judge_id)
    if len(items) != len(answers):
        found = f"{counted(len(items), 'item')} and {counted(len(answers), 'answer')}"
        raise InputError(f"{found}; expected one per item")
    cases = _group_indices(items, benchmark.case_key)
    judge_one = partial(_judge_case, benchmark, judge=judge, round_number=round_number)
    with ThreadPoolExecutor(judge.num_parallel) as pool:
        content = [tuple((items[i], answers[i]) for i in indices) for indices in cases]
        found = list(pool.map(judge_one, content))
    verdicts: dict[int, Verdict] = {}
    for (first, *others), verdict in zip(cases, found, strict=True):
        verdicts[first] = verdict
        for other in others:
            verdicts[other] = {**verdict, "scores": {}, "unreadable": None, "judged_with": first}
    return [verdicts[index] for index in range(len(items))]


def aggregate_verdicts(judge_id: str, verdicts: Sequence[Verdict]) -> JudgedMetrics:
    """Returns the benchmark's metrics over all verdicts, and its headline per breakdown group."""
    benchmark = find_judged_benchmark(judge_id)
    held = [verdict for verdict in verdicts if verdict["judged_with"] is None]
    readable = [verdict for verdict in held if verdict["unreadable"] is None]
    headline = benchmark.headline
    metrics = benchmark.aggregate([one["scores"] for one in readable]) if readable else {}
    for group in sorted({group for one in readable for group in one["groups"]}):
        inside = benchmark.aggregate([one["scores"] for one in readable if group in one["groups"]])
        metrics[f"{headline}/{group}"] = inside[headline]
    if benchmark.unreadable_scores and len(readable) < len(held):
        filled = [one["scores"] or benchmark.unreadable_scores for one in held]
        metrics[f"{headline}_as_reference"] = benchmark.aggregate(filled)[headline]
    return JudgedMetrics(
        metrics=metrics,
        headline=headline,
        num_judged=len(held),
        num_unreadable=len(held) - len(readable),
    )


def _group_indices(
    items: Sequence[Item], case_key: Callable[[Item], object] | None
) -> list[list[int]]:
    """Returns the indices of each case's items, ordered by the first of each."""
    if case_key is None:
        return [[index] for index in range(len(items))]
    cases: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        cases.setdefault(case_key(item), []).append(index)
    return list(cases.values())


def _judge_case(
    benchmark: JudgedBenchmark, case: JudgedCase, *, judge: Judge, round_number: int
) -> Verdict:
    scores: Scores = {}
    unreadable = None
    try:
        scores = _run_dialogue(benchmark.judge(case), judge, round_number)
    except UnreadableReplyError as error:
        unreadable = str(error)
    except RefusedQueryError as error:
        unreadable = f"the judge refuses the query: {error}"
    except MediaError as error:
        unreadable = f"the judge cannot be shown the image: {error}"
    if unreadable:
        log.info("a verdict is left out: %s", unreadable)
    item, _ = case[0]
    groups = [
        f"{name}/{value.strip()}"
        for name in benchmark.breakdown
        if item.get(name)
        for value in str(item[name]).split(",")
    ]
    return {"scores": scores, "unreadable": unreadable, "groups": groups, "judged_with": None}


def _run_dialogue(dialogue: Dialogue, judge: Judge, round_number: int) -> Scores:
    """Answers a benchmark's queries until it returns its scores."""
    try:
        query = next(dialogue)
        while True:
            query = dialogue.send(judge.ask(query, round_number=round_number))
    except StopIteration as done:
        return done.value
