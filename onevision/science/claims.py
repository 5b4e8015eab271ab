"""Records of trials -> what each claim comes to: means over seeds, their intervals, a verdict.

An interval is Student's, 95 %, over seeds: with three of them 4.3 standard errors to each side.
Arms of one seed share their beginnings, so differences are taken within a seed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from onevision.science.exams import Row
from onevision.science.study import Record

# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell"
# A family of fewer questions a seed has no verdict: all seeds are asked the same ones.
MIN_ASKED = 20

Chosen = Callable[[Row], bool]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of a share over seeds, and its 95 % interval."""

    value: float
    low: float
    high: float
    num_seeds: int

    @property
    def verdict(self) -> str:
        """Whether it is above zero, as sure as the interval."""
        return HOLDS if self.low > 0 else FAILS if self.high < 0 else OPEN


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A family of questions asked of an arm: shares of right answers."""

    scenario: str
    family: str
    asked: int  # over all seeds
    sighted: Estimate
    blind: Estimate
    constant: Estimate
    gain: Estimate  # over the better of blind and constant, seed by seed

    @property
    def verdict(self) -> str:
        """Whether the gain is above zero; of few questions nothing is said."""
        return self.gain.verdict if self.asked >= MIN_ASKED * self.gain.num_seeds else OPEN


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and interval over seeds; with one seed the interval is everything."""
    middle, count = mean(values), len(values)
    reach = math.inf
    if count > 1:
        quantile = T_95[min(count - 2, len(T_95) - 1)]
        reach = quantile * stdev(values) / math.sqrt(count)
    return Estimate(value=middle, low=middle - reach, high=middle + reach, num_seeds=count)


def seeds_of(records: Iterable[Record], arms: Iterable[str]) -> list[int]:
    """Return the seeds in which all of these arms are there."""
    wanted, found = set(arms), dict[int, set[str]]()
    for record in records:
        found.setdefault(record.seed, set()).add(record.arm)
    return sorted(seed for seed, names in found.items() if wanted <= names)


def share(record: Record, chosen: Chosen, column: str = "right") -> float:
    """Return the share of the chosen rows' questions that `column` counts."""
    rows = [row for row in record.answers if chosen(row)]
    return sum(row[column] for row in rows) / sum(row["asked"] for row in rows)


class Claims:
    """All records at hand, by arm and seed."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = {(record.arm, record.seed): record for record in records}

    def seeds(self, *arms: str) -> list[int]:
        """Return the seeds in which all of these arms are finished."""
        return seeds_of(self.records.values(), arms)

    def accuracy(self, arm: str, chosen: Chosen, column: str = "right") -> Estimate:
        """Return an arm's share of right answers to the chosen questions."""
        return estimate(
            [share(self.records[arm, seed], chosen, column) for seed in self.seeds(arm)]
        )

    def difference(self, better: str, than: str, chosen: Chosen) -> Estimate:
        """Return how much larger an arm's share is than another's, within seeds."""
        return estimate(
            [
                share(self.records[better, seed], chosen) - share(self.records[than, seed], chosen)
                for seed in self.seeds(better, than)
            ]
        )

    def average(self, arm: str, column: str) -> float:
        """Return a cost of an arm, averaged over seeds."""
        return mean(float(vars(self.records[arm, seed])[column]) for seed in self.seeds(arm))

    def tokens(self, arm: str, chosen: Chosen) -> float:
        """Return how many visual tokens a picture of the chosen rows takes under an arm."""
        return mean(
            row["tokens"]
            for seed in self.seeds(arm)
            for row in self.records[arm, seed].answers
            if chosen(row)
        )

    def skills(self, arm: str) -> list[Skill]:
        """Return what an arm makes of every family of questions, by scenario."""
        seeds = self.seeds(arm)
        rows = [row for seed in seeds for row in self.records[arm, seed].answers]
        kinds = dict.fromkeys((row["scenario"], row["family"]) for row in rows)
        return [self._skill(arm, *kind) for kind in kinds]

    def gain(self, arm: str, chosen: Chosen) -> Estimate:
        """Return how far an arm's share is above the better of blind and constant answers."""
        gains = []
        for seed in self.seeds(arm):
            record = self.records[arm, seed]
            floor = max(share(record, chosen, "blind"), share(record, chosen, "constant"))
            gains.append(share(record, chosen) - floor)
        return estimate(gains)

    def _skill(self, arm: str, scenario: str, family: str) -> Skill:
        chosen = of(scenario=scenario, family=family)
        rows = [
            row
            for seed in self.seeds(arm)
            for row in self.records[arm, seed].answers
            if chosen(row)
        ]
        return Skill(
            scenario=scenario,
            family=family,
            asked=sum(row["asked"] for row in rows),
            sighted=self.accuracy(arm, chosen),
            blind=self.accuracy(arm, chosen, "blind"),
            constant=self.accuracy(arm, chosen, "constant"),
            gain=self.gain(arm, chosen),
        )


def of(**values: object) -> Chosen:
    """Return a choice of rows: `of(scenario="video")`."""
    return lambda row: all(row[name] == value for name, value in values.items())
