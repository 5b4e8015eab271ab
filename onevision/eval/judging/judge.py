"""Items + answers + a judging model -> verdicts -> the benchmark's figures.

A reply is kept on disk by the content of its question, so that a run that stopped goes on where it
was and a second look costs nothing. What a judge says that cannot be read is counted and left out
of the means, never guessed; where the reference counts something in its place, the headline is
also given as the reference would have it.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypedDict

from onevision.errors import InputError
from onevision.eval.judging.benchmark import Asking, Case, JudgedBenchmark, Scores
from onevision.eval.judging.client import (
    Endpoint,
    EndpointConfig,
    JudgeReply,
    Query,
    RefusedQueryError,
)
from onevision.eval.judging.images import BENCHMARKS
from onevision.eval.judging.parse import UnreadableReplyError
from onevision.eval.judging.prompts import Item
from onevision.files import write_json

log = logging.getLogger(__name__)


class Verdict(TypedDict):
    """What a judge found about one answer, ready for JSON."""

    # Empty where the reply could not be read, and for an item judged together with an earlier one.
    scores: Scores
    # Why there is no score, with the beginning of the reply; None where there is.
    unreadable: str | None
    # The groups the item counts in, as "field/value".
    groups: list[str]
    # The index of the item that holds the verdict of this one; None for most.
    judged_with: int | None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a judge's answers took."""

    num_asked: int  # questions sent to the endpoint and answered
    num_remembered: int  # answers found on disk
    num_retries: int
    prompt_tokens: int  # of what was sent; what is remembered costs nothing
    completion_tokens: int
    num_uncounted: int  # answers whose tokens the endpoint does not tell
    cost: float | None  # in the currency of the prices; None without prices or with uncounted


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What verdicts come to."""

    metrics: dict[str, float]  # empty where not one reply could be read
    headline: str  # the name of the metric that stands for the benchmark
    num_judged: int
    num_unreadable: int


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How far a judge agrees with itself about the same answers."""

    headlines: tuple[float, ...]  # of each round
    spread: float  # the largest headline less the smallest
    share_changed: float  # of the cases readable in all rounds: scores not the same in all
    num_unreadable: int  # over all rounds


class Judge:
    """A judging model with a memory. Safe to use from several threads."""

    def __init__(self, config: EndpointConfig, *, memory: Path | None = None) -> None:
        """Take the endpoint, and the directory in which answers are remembered, if any."""
        self.config, self.memory = config, memory
        self._endpoint = Endpoint(config)
        self._lock = threading.Lock()
        self._replies: list[JudgeReply] = []
        self._num_remembered = 0

    def ask(self, query: Query, *, round_number: int = 0) -> str:
        """Return the judge's words; asked anew in every round, remembered within one.

        Raises JudgeError, RefusedQueryError.
        """
        asked = self._content(query, round_number)
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        path = self.memory and self.memory / digest[:2] / f"{digest}.json"
        if path and path.is_file():
            with self._lock:
                self._num_remembered += 1
            return json.loads(path.read_text(encoding="utf-8"))["reply"]["text"]
        reply = self._endpoint.ask(query)
        with self._lock:
            self._replies.append(reply)
        if path:
            write_json(path, {"asked": asked, "reply": asdict(reply)}, indent=None)
        return reply.text

    def _content(self, query: Query, round_number: int) -> dict[str, object]:
        """Return all that the answer may depend on; pictures as the hashes of their bytes."""
        images = [hashlib.sha256(image).hexdigest() for image in query.images]
        judge = {"base_url": self.config.base_url, "model": self.config.model}
        return {**judge, **asdict(query), "images": images, "round": round_number}

    @property
    def spent(self) -> Spent:
        """What has been asked so far, and what it took."""
        with self._lock:
            replies, remembered = tuple(self._replies), self._num_remembered
        counts = [(r.prompt_tokens, r.completion_tokens) for r in replies]
        known = [(i, o) for i, o in counts if i is not None and o is not None]
        tokens_in, tokens_out = sum(i for i, _ in known), sum(o for _, o in known)
        price_in, price_out = self.config.price_in, self.config.price_out
        cost = None
        if price_in is not None and price_out is not None and len(known) == len(replies):
            cost = (tokens_in * price_in + tokens_out * price_out) / 1e6
        return Spent(
            num_asked=len(replies),
            num_remembered=remembered,
            num_retries=self._endpoint.num_retries,
            prompt_tokens=tokens_in,
            completion_tokens=tokens_out,
            num_uncounted=len(replies) - len(known),
            cost=cost,
        )


def judge_answers(
    task_name: str,
    items: Sequence[Item],
    answers: Sequence[str],
    judge: Judge,
    *,
    round_number: int = 0,
) -> list[Verdict]:
    """Judge the answers to a benchmark's items; returns a verdict for each, in order.

    Items are rows of the data set, with its field names. Raises InputError for an unknown
    benchmark, DataError for an item that lacks a field, JudgeError where the judge cannot be asked.
    """
    benchmark = judged_benchmark(task_name)
    if len(items) != len(answers):
        raise InputError(f"{len(items)} items and {len(answers)} answers; expected one an item")
    places = _places(items, benchmark.together)
    cases = [tuple((items[i], answers[i]) for i in place) for place in places]
    one_case = partial(_judge, benchmark, judge=judge, round_number=round_number)
    with ThreadPoolExecutor(judge.config.num_parallel) as pool:
        found = list(pool.map(one_case, cases))
    verdicts: dict[int, Verdict] = {}
    for place, verdict in zip(places, found, strict=True):
        verdicts[place[0]] = verdict
        for other in place[1:]:
            verdicts[other] = {**verdict, "scores": {}, "unreadable": None, "judged_with": place[0]}
    return [verdicts[index] for index in range(len(items))]


def judged_benchmark(task_name: str) -> JudgedBenchmark:
    """Return how a benchmark is judged. Raises InputError."""
    if task_name not in BENCHMARKS:
        raise InputError(f"{task_name!r} has no judge; expected one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[task_name]


def total(task_name: str, verdicts: Sequence[Verdict]) -> Judged:
    """Return what verdicts come to: the benchmark's figures, whole and by group."""
    benchmark = judged_benchmark(task_name)
    held = [one for one in verdicts if one["judged_with"] is None]
    read = [one for one in held if one["unreadable"] is None]
    headline = benchmark.headline
    metrics = benchmark.total([one["scores"] for one in read]) if read else {}
    for group in sorted({group for one in read for group in one["groups"]}):
        inside = benchmark.total([one["scores"] for one in read if group in one["groups"]])
        metrics[f"{headline}/{group}"] = inside[headline]
    if benchmark.unread and len(read) < len(held):
        filled = [one["scores"] or benchmark.unread for one in held]
        metrics[f"{headline}_as_reference"] = benchmark.total(filled)[headline]
    return Judged(
        metrics=metrics,
        headline=headline,
        num_judged=len(held),
        num_unreadable=len(held) - len(read),
    )


def videochatgpt_mean(general: Judged, temporal: Judged, consistency: Judged) -> float:
    """Return the mean of Video-ChatGPT's five grades, which is what the paper reports."""
    names = ("correctness", "detail", "context", "temporal", "consistency")
    grades = {**general.metrics, **temporal.metrics, **consistency.metrics}
    return fmean(grades[name] for name in names)


def stability(
    task_name: str,
    items: Sequence[Item],
    answers: Sequence[str],
    judge: Judge,
    *,
    num_rounds: int = 3,
) -> Stability:
    """Judge the same answers several times over and compare. Raises as `judge_answers`."""
    rounds = [
        judge_answers(task_name, items, answers, judge, round_number=number)
        for number in range(num_rounds)
    ]
    totals = [total(task_name, verdicts) for verdicts in rounds]
    headlines = [one.metrics[one.headline] for one in totals if one.metrics]
    cases = [case for case in zip(*rounds, strict=True) if all(one["scores"] for one in case)]
    changed = sum(any(one["scores"] != case[0]["scores"] for one in case) for case in cases)
    return Stability(
        headlines=tuple(headlines),
        spread=max(headlines, default=0.0) - min(headlines, default=0.0),
        share_changed=changed / len(cases) if cases else 0.0,
        num_unreadable=sum(one.num_unreadable for one in totals),
    )


def _places(items: Sequence[Item], together: Callable[[Item], object] | None) -> list[list[int]]:
    """Return the indices of the items of each case, in order of their first."""
    if together is None:
        return [[index] for index in range(len(items))]
    places: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        places.setdefault(together(item), []).append(index)
    return list(places.values())


def _judge(benchmark: JudgedBenchmark, case: Case, *, judge: Judge, round_number: int) -> Verdict:
    scores: Scores = {}
    unreadable = None
    try:
        scores = _converse(benchmark.judge(case), judge, round_number)
    except UnreadableReplyError as error:
        unreadable = str(error)
    except RefusedQueryError as error:
        unreadable = f"the judge refuses the question: {error}"
    if unreadable:
        log.warning("a verdict is left out: %s", unreadable)
    groups = [
        f"{name}/{value.strip()}"
        for name in benchmark.groups
        if case[0][0].get(name)
        for value in str(case[0][0][name]).split(",")
    ]
    return {"scores": scores, "unreadable": unreadable, "groups": groups, "judged_with": None}


def _converse(asking: Asking, judge: Judge, round_number: int) -> Scores:
    """Answer a benchmark's questions until it has its scores."""
    try:
        query = next(asking)
        while True:
            query = asking.send(judge.ask(query, round_number=round_number))
    except StopIteration as done:
        return done.value
