"""What a job may spend: tasks, money, failures -> whether another query may be sent."""

import math
from dataclasses import dataclass

from onevision.conversation import Conversation, Text
from onevision.curate.task import Attempt, Task
from onevision.errors import ConfigError

# Tokens of a picture at most, for a bound on what a query may cost.
MAX_PICTURE_TOKENS = 16_384


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a job stops by itself. None is no limit."""

    # Tasks in all, in the order of the input, those of earlier runs included.
    max_rows: int | None = None
    # In the currency of the prices, what earlier runs spent included.
    max_money: float | None = None
    # Failures of single queries in this run.
    max_errors: int = 20

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ConfigError(
                f"--max-rows is {self.max_rows}, so nothing would be asked; expected at least 1"
            )
        if self.max_money is not None and not 0 < self.max_money < math.inf:
            raise ConfigError(
                f"--max-money is {self.max_money}, so nothing may be asked; expected more than 0"
            )
        if self.max_errors < 0:
            raise ConfigError(f"--max-errors is {self.max_errors}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a million tokens cost, in any currency."""

    per_million_in: float
    per_million_out: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Returns what a query costs."""
        spent = prompt_tokens * self.per_million_in + completion_tokens * self.per_million_out
        return spent / 1e6

    def bound(self, task: Task) -> float:
        """Returns what a query costs at most: a token is at least one byte of text."""
        return self.cost(bound_tokens(task.conversation), task.sampling.max_tokens)


class Budget:
    """Counts what is spent, what queries in flight may cost, and failures."""

    def __init__(self, limits: Limits, *, prices: Prices | None, spent: float) -> None:
        """Raises ConfigError for a limit of money without prices."""
        if limits.max_money is not None and prices is None:
            raise ConfigError(
                "--max-money needs prices; give --writer-prices IN,OUT, per million tokens"
            )
        self.limits, self.prices, self.spent = limits, prices, spent
        self.num_errors = 0
        self._reserved = 0.0

    def may_send(self, task: Task) -> bool:
        """Whether a query fits what is left, however long its reply; reserves its cost if so."""
        cost = self._bound(task)
        most = self.limits.max_money
        if most is not None and self.spent + self._reserved + cost > most:
            return False
        self._reserved += cost
        return True

    def settle(self, task: Task, attempt: Attempt) -> None:
        """Books what an attempt did cost in place of what it might have."""
        self._reserved -= self._bound(task)
        self.spent += attempt.money
        self.num_errors += attempt.fault is not None

    def price(self, task: Task, prompt_tokens: int | None, completion_tokens: int | None) -> float:
        """Returns what a reply cost; the most it may have, if its tokens are not reported."""
        if self.prices is None:
            return 0.0
        if prompt_tokens is None or completion_tokens is None:
            return self.prices.bound(task)
        return self.prices.cost(prompt_tokens, completion_tokens)

    @property
    def has_too_many_errors(self) -> bool:
        """Whether more queries have failed than may."""
        return self.num_errors > self.limits.max_errors

    def _bound(self, task: Task) -> float:
        return 0.0 if self.prices is None else self.prices.bound(task)


def bound_tokens(conversation: Conversation) -> int:
    """Returns the most tokens that a conversation may have."""
    parts = [part for message in conversation.messages for part in message.parts]
    # Each message has a few tokens around it.
    return 16 * len(conversation.messages) + sum(
        len(part.text.encode()) if isinstance(part, Text) else MAX_PICTURE_TOKENS for part in parts
    )
