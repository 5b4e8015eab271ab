"""The answers of an exam -> each capability's share, its baselines, and a verdict.

The verdict compares question by question with the better of the two baselines: the same model with
grey media, and the most common answer of each kind of question, chosen with the key. The interval
of the difference is a paired bootstrap's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from onevision.eval.statistics import HeadlineDifference, Interval, paired_means
from onevision.files import Line
from onevision.science.capabilities.capability import CAPABILITIES, Capability
from onevision.science.capabilities.exam import HELD_OUT, KIND
from onevision.science.claims import FAILS, HOLDS, OPEN
from onevision.science.probes.results import (
    check_place,
    constant_scores,
    read_answers,
    share,
)

NUM_EXAMPLES = 2  # of right answers, and of wrong ones


@dataclass(frozen=True, kw_only=True)
class CapabilityResult:
    """What a model makes of one capability."""

    capability: Capability
    lines: tuple[Line, ...]
    right: Interval
    blind: Interval
    constant: Interval
    # Above the better of the two baselines, question by question.
    gain: HeadlineDifference
    num_failed: int

    @property
    def verdict(self) -> str:
        """Whether the gain's interval is above zero, below it, or on both sides."""
        return HOLDS if self.gain.low > 0 else FAILS if self.gain.high < 0 else OPEN

    def examples(self) -> list[Line]:
        """Returns the first right and the first wrong answers: four, if there are so many."""
        sides = [
            [line for line in self.lines if (line["score"] == 1) == it] for it in (True, False)
        ]
        chosen = [*sides[0][:NUM_EXAMPLES], *sides[1][:NUM_EXAMPLES]]
        rest = [*sides[0][NUM_EXAMPLES:], *sides[1][NUM_EXAMPLES:]]
        return chosen + rest[: 2 * NUM_EXAMPLES - len(chosen)]

    def by_family(self) -> list[tuple[str, Interval]]:
        """Returns the share of right answers of each kind of question, the most asked first."""
        families: dict[str, list[float]] = {}
        for line in self.lines:
            families.setdefault(line["family"], []).append(line["score"])
        ordered = sorted(families.items(), key=lambda one: (-len(one[1]), one[0]))
        return [(family, share(scores)) for family, scores in ordered]


@dataclass(frozen=True, kw_only=True)
class ExamResults:
    """A whole exam: what was asked of which model, and what it came to."""

    settings: Line
    results: tuple[CapabilityResult, ...]

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.settings["model"]["name"])

    @property
    def seconds(self) -> float:
        """How long answering took."""
        return sum(line["seconds"] for one in self.results for line in one.lines)


def read_exam(directory: Path) -> ExamResults:
    """Reads the answers of an exam. Raises DataError if they are none of its command."""
    settings, lines = read_answers(directory, kind=KIND, output=directory.parent)
    known = {(name, HELD_OUT.label) for name in CAPABILITIES}
    by_name: dict[str, list[Line]] = {name: [] for name in CAPABILITIES}
    for line in lines:
        check_place(line, known, directory)
        by_name[line["probe"]].append(line)
    return ExamResults(
        settings=settings,
        results=tuple(
            summarise(CAPABILITIES[name], sorted(asked, key=lambda line: line["index"]))
            for name, asked in by_name.items()
            if asked
        ),
    )


def summarise(capability: Capability, lines: Sequence[Line]) -> CapabilityResult:
    """Returns what the answers to one capability come to."""
    scores = [float(line["score"]) for line in lines]
    blind = [float(line["blind"]) for line in lines]
    constant = constant_scores(lines)
    better = blind if fmean(blind) > fmean(constant) else constant
    return CapabilityResult(
        capability=capability,
        lines=tuple(lines),
        right=share(scores),
        blind=share(blind),
        constant=share(constant),
        gain=paired_means(better, scores),
        num_failed=sum("failure" in line for line in lines),
    )
