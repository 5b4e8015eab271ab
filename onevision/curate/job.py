"""Tasks and a writer -> records with their provenance; a stopped job resumes where it was.

    data/
        attempts.jsonl     every reply as it arrived, appended; what a resumed job knows
        records.json       LLaVA records of what was kept, in the order of the input
        provenance.jsonl   a line for each task: source, prompt, writer, reply, outcome
        mixture.yaml       names records.json and the root of its pictures
        summary.json       counts, reasons, tokens, money

Only attempts.jsonl grows. The other files are functions of the input and the attempts, written
whole when the job ends or stops, so a job that was killed and run again leaves the bytes of one
that was not.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from onevision.curate.budget import Budget, Limits, Prices
from onevision.curate.claim import ATTEMPTS, claim
from onevision.curate.journal import Journal
from onevision.curate.outcome import Missing, decide
from onevision.curate.output import Summary, write_outputs
from onevision.curate.task import Attempt, Job, Task
from onevision.curate.writer import Ask, Writer
from onevision.errors import EndpointError, EngineError
from onevision.locks import lock_directory
from onevision.plural import counted


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a job is."""

    num_done: int  # tasks settled, those of earlier runs included
    num_items: int
    num_errors: int
    money: float
    seconds_left: float | None  # None before the first reply


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job has made, and why it stopped, if it is not done."""

    summary: Summary
    stopped: str | None = None
    # Whether it stopped, if it did, where --max-rows or --max-money says.
    within_limits: bool = False


def run_job(
    job: Job,
    writer: Writer,
    output: Path,
    *,
    limits: Limits,
    prices: Prices | None = None,
    on_progress: Callable[[Progress], object] = str,
) -> JobResult:
    """Runs a job, or resumes it, and writes its files.

    Raises ConfigError if another process writes there, if another command has, or if the limits
    contradict themselves, DataError for input that cannot be read, OSError.
    """
    with lock_directory(output, holder="job"):
        claim(output, job=job.name)
        return _run_locked(job, writer, output, limits, prices, on_progress)


def _run_locked(
    job: Job,
    writer: Writer,
    output: Path,
    limits: Limits,
    prices: Prices | None,
    on_progress: Callable[[Progress], object],
) -> JobResult:
    with Journal(output / ATTEMPTS) as journal:
        budget = Budget(limits, prices=prices, spent=journal.money)
        run = _Run(job, journal, budget, on_progress)
        stopped: str | None = None
        try:
            for answered in writer.answers(run.next_ask):
                run.take(answered.ask, answered.attempt)
        except (EndpointError, EngineError) as error:
            stopped = str(error)
        summary = write_outputs(job, journal, output, max_rows=limits.max_rows)
        within_limits = stopped is None and run.is_spent
        stopped = stopped or run.stopped or run.left_unanswered
        if stopped is None and limits.max_rows is not None and limits.max_rows < job.num_items:
            stopped, within_limits = f"--max-rows {limits.max_rows} is reached", True
        return JobResult(summary=summary, stopped=stopped, within_limits=within_limits)


class _Run:
    """The asks of a run: the tasks in order, and second tries before them."""

    def __init__(
        self,
        job: Job,
        journal: Journal,
        budget: Budget,
        on_progress: Callable[[Progress], object],
    ) -> None:
        self.stopped: str | None = None
        self.is_spent = False  # whether it stopped for want of money
        self.left_unanswered: str | None = None  # queries that the next run asks again, and why
        self._job, self._journal, self._budget = job, journal, budget
        self._on_progress = on_progress
        self._again: deque[Ask] = deque()
        self._new = self._unanswered()
        self._last_failure = ""
        self._waiting: Ask | None = None  # an ask that the budget held back
        self._in_flight = set[str]()
        self._num_done = self._num_answered = self._num_failed = 0
        self._begin = time.monotonic()

    def next_ask(self) -> Ask | None:
        """Returns what to ask next; None if nothing is left, or if the job stops."""
        if self.stopped is not None:
            return None
        if self._budget.has_too_many_errors:
            self.stopped = (
                f"{self._budget.num_errors} queries failed, more than --max-errors "
                f"{self._budget.limits.max_errors}; the last with: {self._last_failure}"
            )
            return None
        ask = self._waiting or (self._again.popleft() if self._again else next(self._new, None))
        self._waiting = None
        if ask is None:
            return None
        if not self._budget.may_send(ask.task):
            self._hold_back(ask)
            return None
        self._in_flight.add(ask.task.id)
        return ask

    def take(self, ask: Ask, attempt: Attempt) -> None:
        """Writes an attempt down, and asks again if it has to be."""
        money = self._budget.price(ask.task, attempt.prompt_tokens, attempt.completion_tokens)
        attempt = replace(attempt, money=money if attempt.text is not None else 0.0)
        self._journal.append(attempt)
        self._budget.settle(ask.task, attempt)
        self._in_flight.discard(ask.task.id)
        self._num_answered += 1
        if attempt.fault is not None:
            self._last_failure = attempt.detail
        if not attempt.is_final:
            self._num_failed += 1
            told = counted(self._num_failed, "query", "queries")
            self.left_unanswered = f"{told} failed, the last with: {attempt.detail}"
        found = decide(self._job.read, ask.task, self._journal.attempts(ask.task.id))
        if isinstance(found, Missing) and attempt.is_final:
            self._again.append(Ask(ask.task, found.number))
        else:
            self._num_done += 1
        self._report()

    def _hold_back(self, ask: Ask) -> None:
        """Keeps an ask that does not fit the budget until what is in flight has a price."""
        self._waiting = ask
        if not self._in_flight:
            self.is_spent = True
            self.stopped = (
                f"--max-money {self._budget.limits.max_money:g} is reached: "
                f"{self._budget.spent:.4g} is spent, and the next query may cost more than is left"
            )

    def _unanswered(self) -> Iterator[Ask]:
        """Yields the asks of tasks that are not settled, each task once."""
        asked = set[bytes]()
        for place, item in enumerate(self._job.items()):
            if self._budget.limits.max_rows is not None and place >= self._budget.limits.max_rows:
                return
            if isinstance(item, Task) and (key := bytes.fromhex(item.id)) not in asked:
                asked.add(key)
                found = decide(self._job.read, item, self._journal.attempts(item.id))
                if isinstance(found, Missing):
                    yield Ask(item, found.number)
                    continue
            self._num_done += 1

    def _report(self) -> None:
        total = self._job.num_items
        if self._budget.limits.max_rows is not None:
            total = min(total, self._budget.limits.max_rows)
        seconds = (time.monotonic() - self._begin) / self._num_answered
        self._on_progress(
            Progress(
                num_done=self._num_done,
                num_items=total,
                num_errors=self._budget.num_errors,
                money=self._budget.spent,
                seconds_left=seconds * max(0, total - self._num_done),
            )
        )
