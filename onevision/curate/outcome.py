"""A task and its attempts -> an outcome, or the number of the try that is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onevision.curate.task import MAX_TRIES, Attempt, Outcome, Task


@dataclass(frozen=True)
class Missing:
    """Try `number` has no reply yet; `fault` is why, if it was asked."""

    number: int
    fault: str | None = None


def decide(
    read: Callable[[Task, Attempt], Outcome], task: Task, attempts: Sequence[Attempt]
) -> Outcome | Missing:
    """Returns what became of a task: the outcome of its last try, or the try to make."""
    final = {attempt.number: attempt for attempt in attempts if attempt.is_final}
    failed = {attempt.number: attempt.fault for attempt in attempts}
    for number in range(MAX_TRIES):
        attempt = final.get(number)
        if attempt is None:
            return Missing(number, failed.get(number))
        outcome = _read(read, task, attempt)
        if not outcome.ask_again or number == MAX_TRIES - 1:
            return outcome
    raise AssertionError("the last try has an outcome")


def _read(read: Callable[[Task, Attempt], Outcome], task: Task, attempt: Attempt) -> Outcome:
    if attempt.fault is not None:
        return Outcome(reason=attempt.fault, detail=attempt.detail)
    return read(task, attempt)
