"""A checkpoint and held-out questions -> how many it answers right, with an interval.

Questions are those of a procedural scenario (`single_image`, ...), or a user's records, whose last
answers are expected.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from onevision.curate.gates.blind import agrees
from onevision.errors import DataError
from onevision.eval.heldout import SCENARIOS, run_heldout
from onevision.eval.own_data import open_own_questions
from onevision.eval.statistics import Interval, paired_means, proportion_interval
from onevision.files import write_json
from onevision.generate.answer import Model

BATCH = 16
MAX_NEW_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Whether each answer was right, in the order of the questions."""

    right: tuple[bool, ...]

    @property
    def interval(self) -> Interval:
        """The share of right answers, 0 to 1, with its 95 % interval."""
        return proportion_interval(sum(self.right), len(self.right))

    def gain_over(self, other: "Measured") -> Interval:
        """Returns the difference to the answers of another model, question by question."""
        return paired_means(other.right, self.right)


Measure = Callable[[Model], Measured]


def open_measure(questions: str, *, count: int) -> Measure:
    """Returns what asks the first `count` questions: a scenario's, or those of a file.

    An answer of up to five words is right if it is the expected one, a longer one from ROUGE-L 0.7.
    Raises DataError.
    """
    if questions in SCENARIOS:
        return partial(_measure_scenario, scenario=questions, count=count)
    if not Path(questions).exists():
        raise DataError(
            f"--questions is {questions!r}; expected {', '.join(SCENARIOS)}, or a file of records"
        )
    open_own_questions(Path(questions))  # what is wrong with it is said first
    return partial(_measure_records, path=Path(questions), count=count)


def measure_once(path: Path, measure: Callable[[], Measured]) -> Measured:
    """Returns what an earlier run measured, or measures and writes it down. Raises OSError."""
    if path.is_file():
        return Measured(right=tuple(json.loads(path.read_text(encoding="utf-8"))["right"]))
    measured = measure()
    write_json(path, asdict(measured))
    return measured


def _measure_scenario(model: Model, *, scenario: str, count: int) -> Measured:
    return Measured(right=run_heldout(model, scenario, count=count).right)


def _measure_records(model: Model, *, path: Path, count: int) -> Measured:
    own = open_own_questions(path, max_new_tokens=MAX_NEW_TOKENS)
    asked = [own.pose(row) for row in range(min(count, len(own)))]
    posed = iter(
        [(q.conversation, str(q.item["answer"])) for q in asked if q is not None and q.conversation]
    )
    right: list[bool] = []
    while batch := list(islice(posed, BATCH)):
        replies = model.ask_all([talk for talk, _ in batch], max_new_tokens=MAX_NEW_TOKENS)
        right += [
            agrees(reply.text, expected)
            for (_, expected), reply in zip(batch, replies, strict=True)
        ]
    return Measured(right=tuple(right))
