"""Model + held-out questions -> answers and accuracy."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from onevision.conversation import Conversation, Message, Text
from onevision.eval.heldout import NUM_QUESTIONS, Item, heldout
from onevision.eval.scoring.numbers import relaxed_match
from onevision.eval.scoring.text import exact_match
from onevision.eval.statistics import Interval, mean_interval
from onevision.generate.answer import Model

BATCH = 20
MAX_ANSWER_TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answers to one scenario's questions."""

    scenario: str
    blind: bool
    items: tuple[Item, ...]
    answers: tuple[str, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether each answer is the expected one; a value of a chart, within 5 % of it."""
        match = relaxed_match if self.scenario == "charts" else exact_match
        return tuple(
            match(answer, item.question.answer)
            for item, answer in zip(self.items, self.answers, strict=True)
        )

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return sum(self.right) / len(self.items)

    @property
    def interval(self) -> Interval:
        """The accuracy with its interval."""
        return mean_interval(self.right)

    def by_family(self) -> dict[str, tuple[int, int]]:
        """Return (right, asked) of each question family."""
        asked = Counter(item.question.family for item in self.items)
        right = Counter(
            item.question.family
            for item, is_right in zip(self.items, self.right, strict=True)
            if is_right
        )
        return {family: (right[family], count) for family, count in asked.items()}

    def intervals_by_family(self) -> dict[str, Interval]:
        """Return the accuracy of each question family with its interval."""
        right: dict[str, list[bool]] = {}
        for item, is_right in zip(self.items, self.right, strict=True):
            right.setdefault(item.question.family, []).append(is_right)
        return {family: mean_interval(answers) for family, answers in right.items()}

    def records(self) -> Iterator[dict[str, object]]:
        """Give one JSON record an answer."""
        for item, answer, right in zip(self.items, self.answers, self.right, strict=True):
            yield {
                "scenario": self.scenario,
                "blind": self.blind,
                "family": item.question.family,
                "question": item.question.question,
                "expected": item.question.answer,
                "answer": answer,
                "right": right,
            }


def run_heldout(
    model: Model, scenario: str, *, count: int = NUM_QUESTIONS, blind: bool = False
) -> Result:
    """Ask the first `count` held-out questions of a scenario."""
    return run_items(model, heldout(scenario, count=count, blind=blind), scenario, blind=blind)


def run_items(model: Model, items: Iterable[Item], scenario: str, *, blind: bool = False) -> Result:
    """Ask any questions with one right answer each; `scenario` names them."""
    asked = tuple(items)
    answers = [answer for batch in _batches(asked) for answer in _ask(model, batch)]
    return Result(scenario=scenario, blind=blind, items=asked, answers=tuple(answers))


def _ask(model: Model, items: tuple[Item, ...]) -> list[str]:
    talks = [
        Conversation([Message("user", [*item.media, Text(item.question.question)])])
        for item in items
    ]
    return [r.text for r in model.ask_all(talks, max_new_tokens=MAX_ANSWER_TOKENS)]


def _batches(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    remaining = iter(items)
    while batch := tuple(islice(remaining, BATCH)):
        yield batch
