"""A job, and replies that are there already -> what it will take: tasks, tokens, hours, money.

Tokens and seconds of a task are means over the replies of the output's journal, so a plan after
`--max-rows 20` is measured. Without replies tokens are bounded: a token of text is at least a byte,
a reply is as long as it may be; and hours are unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

from onevision.curate.budget import Prices, bound_tokens
from onevision.curate.claim import ATTEMPTS
from onevision.curate.journal import read_attempts
from onevision.curate.task import Attempt, Job, Task

# Items of the input that are read for a plan.
NUM_READ = 200


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a whole job will take."""

    num_items: int
    num_tasks: int  # without what the first items show to be refused or repeated
    num_replies: int  # that were measured
    prompt_tokens: float
    completion_tokens: float
    hours: float | None
    money: float | None

    @property
    def is_measured(self) -> bool:
        """Whether tokens are means over replies, not bounds."""
        return self.num_replies > 0


def plan_job(
    job: Job, output: Path, *, num_parallel: int, num_workers: int, prices: Prices | None
) -> JobPlan:
    """Returns what a job takes with `num_workers` workers of `num_parallel` queries each.

    Raises DataError.
    """
    read = list(islice(job.items(), NUM_READ))
    tasks = {item.id: item for item in read if isinstance(item, Task)}
    share = len(tasks) / len(read) if read else 0.0
    num_tasks = round(job.num_items * share)
    replies = [one for one in _read_attempts(output) if one.text is not None]
    per_task = _tries(replies)
    if replies:
        prompt = per_task * fmean(one.prompt_tokens or 0 for one in replies)
        completion = per_task * fmean(one.completion_tokens or 0 for one in replies)
    elif tasks:
        prompt = fmean(bound_tokens(task.conversation) for task in tasks.values())
        completion = fmean(task.sampling.max_tokens for task in tasks.values())
    else:
        prompt = completion = 0.0
    seconds = [one.seconds for one in replies if one.seconds is not None]
    hours = None
    if seconds:
        hours = per_task * fmean(seconds) * num_tasks / (num_parallel * num_workers) / 3600
    tokens_in, tokens_out = num_tasks * prompt, num_tasks * completion
    return JobPlan(
        num_items=job.num_items,
        num_tasks=num_tasks,
        num_replies=len(replies),
        prompt_tokens=tokens_in,
        completion_tokens=tokens_out,
        hours=hours,
        money=None if prices is None else prices.cost(round(tokens_in), round(tokens_out)),
    )


def _tries(replies: list[Attempt]) -> float:
    """Returns the mean number of replies to a task, 1 without any."""
    return len(replies) / len({one.task for one in replies}) if replies else 1.0


def _read_attempts(output: Path) -> Iterator[Attempt]:
    """Yields the attempts of a job's directory, or of those of its shards."""
    for path in (output / ATTEMPTS, *sorted(output.glob(f"shards/*/{ATTEMPTS}"))):
        if path.is_file():
            yield from read_attempts(path)
