"""Records of trials -> what each claim comes to: means over seeds, their intervals, a verdict.

Intervals are Student's at 95 %, over seeds: with three seeds, 4.3 standard errors to each side.
The arms of a seed start from the same weights, so differences are taken within a seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from onevision.science.evaluation import AnswerRow
from onevision.science.study import TrialRecord

# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"
# A family with fewer questions per seed gets no verdict: all seeds are asked the same questions.
MIN_ASKED = 20

RowFilter = Callable[[AnswerRow], bool]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of a share over seeds, and its 95 % interval."""

    value: float
    low: float
    high: float
    num_seeds: int

    @property
    def verdict(self) -> str:
        """Whether the interval lies above zero, below it, or on both sides."""
        return HOLDS if self.low > 0 else FAILS if self.high < 0 else OPEN


@dataclass(frozen=True, kw_only=True)
class Skill:
    """How an arm answers one family of questions: shares of right answers."""

    scenario: str
    family: str
    asked: int  # over all seeds
    sighted: Estimate
    blind: Estimate
    constant: Estimate
    gain: Estimate  # over the better of blind and constant, seed by seed

    @property
    def verdict(self) -> str:
        """The gain's verdict, or OPEN if too few questions were asked."""
        return self.gain.verdict if self.asked >= MIN_ASKED * self.gain.num_seeds else OPEN


def estimate(values: Sequence[float]) -> Estimate:
    """Returns mean and interval over seeds; with one seed the interval is infinite."""
    middle, count = mean(values), len(values)
    reach = math.inf
    if count > 1:
        quantile = T_95[min(count - 2, len(T_95) - 1)]
        reach = quantile * stdev(values) / math.sqrt(count)
    return Estimate(value=middle, low=middle - reach, high=middle + reach, num_seeds=count)


def where(**values: object) -> RowFilter:
    """Returns a filter of rows: `where(scenario="video")`."""
    return lambda row: all(row[name] == value for name, value in values.items())


class Results:
    """The records of all finished trials, by arm and seed."""

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        self.records = {(record.arm, record.seed): record for record in records}

    def seeds(self, *arms: str) -> list[int]:
        """Returns the seeds in which all of these arms are finished."""
        seeds = {seed for _, seed in self.records}
        return sorted(s for s in seeds if all((arm, s) in self.records for arm in arms))

    def accuracy(self, arm: str, chosen: RowFilter, column: str = "right") -> Estimate:
        """Returns an arm's share of right answers to the chosen questions."""
        return estimate([self._share(arm, seed, chosen, column) for seed in self.seeds(arm)])

    def difference(self, better: str, than: str, chosen: RowFilter) -> Estimate:
        """Returns how much larger one arm's share is than another's, within seeds."""
        return estimate(
            [
                self._share(better, seed, chosen) - self._share(than, seed, chosen)
                for seed in self.seeds(better, than)
            ]
        )

    def gain(self, arm: str, chosen: RowFilter) -> Estimate:
        """Returns how far an arm's share is above the better of blind and constant answers."""
        return estimate(
            [
                self._share(arm, seed, chosen)
                - max(self._share(arm, seed, chosen, column) for column in ("blind", "constant"))
                for seed in self.seeds(arm)
            ]
        )

    def average(self, arm: str, column: str) -> float:
        """Returns a cost of an arm, averaged over seeds."""
        return mean(float(vars(self.records[arm, seed])[column]) for seed in self.seeds(arm))

    def tokens(self, arm: str, chosen: RowFilter) -> float:
        """Returns the mean number of visual tokens of an image in the chosen rows."""
        return mean(row["tokens"] for row in self._rows(arm, chosen))

    def skills(self, arm: str) -> list[Skill]:
        """Returns how an arm answers each family of questions, by scenario."""
        rows = self._rows(arm, lambda _: True)
        families = dict.fromkeys((row["scenario"], row["family"]) for row in rows)
        return [self._skill(arm, *family) for family in families]

    def _skill(self, arm: str, scenario: str, family: str) -> Skill:
        chosen = where(scenario=scenario, family=family)
        return Skill(
            scenario=scenario,
            family=family,
            asked=sum(row["asked"] for row in self._rows(arm, chosen)),
            sighted=self.accuracy(arm, chosen),
            blind=self.accuracy(arm, chosen, "blind"),
            constant=self.accuracy(arm, chosen, "constant"),
            gain=self.gain(arm, chosen),
        )

    def _rows(self, arm: str, chosen: RowFilter) -> list[AnswerRow]:
        answers = [row for seed in self.seeds(arm) for row in self.records[arm, seed].answers]
        return [row for row in answers if chosen(row)]

    def _share(self, arm: str, seed: int, chosen: RowFilter, column: str = "right") -> float:
        """Returns the share of the chosen rows' questions that `column` counts."""
        rows = [row for row in self.records[arm, seed].answers if chosen(row)]
        return sum(row[column] for row in rows) / sum(row["asked"] for row in rows)
