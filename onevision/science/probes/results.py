"""The answers of a run -> a curve per probe with intervals and baselines, slices, confusions.

Shares have Wilson's interval where scores are 0 or 1, else that of a bootstrap; the change from the
reference level is a paired bootstrap over the same questions (eval/statistics.py).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.eval.scoring.text import normalise
from onevision.eval.statistics import (
    HeadlineDifference,
    Interval,
    mean_interval,
    paired_means,
    proportion_interval,
)
from onevision.files import Line
from onevision.science.probes.ask import KIND
from onevision.science.probes.item import Level, Probe
from onevision.science.probes.registry import PROBES, levels_of, reference_of

# Slices of fewer questions say too little.
MIN_SLICE = 10
CLOSED = ("yes", "no")
# What every answer has.
WANTED = ("probe", "level", "index", "family", "question", "expected", "answer", "score", "blind",
          "tokens", "seconds")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Point:
    """The answers at one level of a probe."""

    level: Level
    num_asked: int
    accuracy: Interval
    # The share that is right when all media are grey.
    blind: Interval
    # The share that is right if each family's most common answer is given, chosen with the key.
    constant: float
    # Tokens of a prompt, on average.
    tokens: float
    num_failed: int
    # From the reference level, over the questions asked at both; None at the reference.
    change: HeadlineDifference | None
    # The share of answers that say yes, if all questions are closed.
    says_yes: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A probe's points, in the order of its levels."""

    probe: Probe
    points: tuple[Point, ...]
    # The level that others are compared with, if it was asked.
    reference: Point | None

    @property
    def worst(self) -> Point:
        """The point with the fewest right answers."""
        return min(self.points, key=lambda point: point.accuracy.value)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One family of a probe's questions: inside and outside of what was trained."""

    probe: str
    family: str
    inside: Interval
    outside: Interval

    @property
    def drop(self) -> float:
        """How much lower the share of right answers is outside."""
        return self.inside.value - self.outside.value


@dataclass(frozen=True)
class ProbeResults:
    """All answers of a run."""

    settings: Line
    lines: tuple[Line, ...]

    @property
    def on_files(self) -> bool:
        """Whether existing pictures were corrupted, instead of worlds drawn."""
        return bool(self.settings["data"]["name"])

    @property
    def seconds(self) -> float:
        """How long answering took."""
        return sum(line["seconds"] for line in self.lines)

    @cached_property
    def by_probe(self) -> Mapping[str, list[Line]]:
        """The answers of each probe, in the registry's order."""
        found: dict[str, list[Line]] = {name: [] for name in PROBES}
        for line in self.lines:
            found[line["probe"]].append(line)
        return {name: lines for name, lines in found.items() if lines}

    @cached_property
    def curves(self) -> tuple[Curve, ...]:
        """A curve per probe."""
        return tuple(self._curve(PROBES[name], lines) for name, lines in self.by_probe.items())

    def slices(self) -> list[Slice]:
        """Returns the families of every probe, those that lose most first."""
        found = list[Slice]()
        for name, lines in self.by_probe.items():
            trained = {level.label for level in self._levels(name) if level.trained}
            sides: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
            for line in lines:
                sides[line["family"]][line["level"] not in trained].append(line["score"])
            found += [
                Slice(probe=name, family=family, inside=share(inside), outside=share(outside))
                for family, (inside, outside) in sides.items()
                if min(len(inside), len(outside)) >= MIN_SLICE
            ]
        return sorted(found, key=lambda one: -one.drop)

    def consistency(self, name: str) -> Interval | None:
        """Returns the share of questions that are right at every level of a probe."""
        scores: dict[int, list[float]] = defaultdict(list)
        for line in self.by_probe.get(name, ()):
            scores[line["index"]].append(line["score"])
        most = max(map(len, scores.values()), default=0)
        whole = [min(some) for some in scores.values() if len(some) == most]
        return share([float(score == 1) for score in whole]) if whole else None

    def confusions(self, name: str) -> list[tuple[str, str, int]]:
        """Returns (expected, given, times) of a probe's wrong answers, the most common first."""
        found = Counter(
            (normalise(line["expected"]), normalise(line["answer"]))
            for line in self.by_probe.get(name, ())
            if line["score"] < 1
        )
        return [(expected, given, times) for (expected, given), times in found.most_common()]

    def examples(self, name: str) -> list[Line]:
        """Returns a probe's wrong answers whose picture was kept, by level."""
        order = {level.label: place for place, level in enumerate(self._levels(name))}
        kept = [line for line in self.by_probe.get(name, ()) if "picture" in line]
        return sorted(kept, key=lambda line: (order[line["level"]], line["index"]))

    def _levels(self, name: str) -> tuple[Level, ...]:
        return levels_of(PROBES[name], on_files=self.on_files)

    def _curve(self, probe: Probe, lines: Sequence[Line]) -> Curve:
        at: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            at[line["level"]].append(line)
        levels = self._levels(probe.name)
        first = reference_of(levels).label
        points = tuple(
            _point(level, at[level.label], at.get(first, []) if level.label != first else [])
            for level in levels
            if level.label in at
        )
        reference = next((one for one in points if one.level.label == first), None)
        return Curve(probe=probe, points=points, reference=reference)


def read_results(directory: Path) -> ProbeResults:
    """Reads the answers of a run. Raises DataError if they are none of `onevision probe`."""
    settings, lines = read_answers(directory, kind=KIND, output=directory)
    on_files = bool(settings["data"]["name"])
    known = {
        (name, level.label)
        for name, probe in PROBES.items()
        for level in (levels_of(probe, on_files=on_files) if probe.corrupt or not on_files else ())
    }
    for line in lines:
        check_place(line, known, directory)
    return ProbeResults(settings, tuple(lines))


def read_answers(directory: Path, *, kind: str, output: Path) -> tuple[Line, list[Line]]:
    """Returns what was asked in a run of a kind, which names its command, and every answer.

    `output` is what that command takes as the place of the run.

    Raises DataError if there are none, or of another kind.
    """
    files = AnswerFiles(directory)
    settings = files.settings()
    if settings.get("kind") != kind:
        raise DataError(f"{directory}: not a run of onevision {kind}; give a folder that it wrote")
    lines = files.answers()
    if not lines:
        raise DataError(f"{directory}: no answers yet; run onevision {kind} -o {output}")
    for line in lines:
        missing = [key for key in WANTED if key not in line]
        if missing:
            raise DataError(f"{directory}, row {line['row']}: it has no {missing[0]!r}; remove it")
    return settings, lines


def share(scores: Sequence[float]) -> Interval:
    """Returns the mean of scores and its interval."""
    if all(score in (0, 1) for score in scores):
        return proportion_interval(round(sum(scores)), len(scores))
    return mean_interval(scores)


def check_place(line: Line, known: set[tuple[str, str]], directory: Path) -> None:
    """Raises DataError for an answer to what this version does not ask."""
    place = (line["probe"], line["level"])
    if place not in known:
        raise DataError(
            f"{directory}, row {line['row']}: no probe has level {place[1]!r} of {place[0]!r}; "
            "the answers are of another version, run it again"
        )


def _point(level: Level, lines: Sequence[Line], reference: Sequence[Line]) -> Point:
    scores = {line["index"]: float(line["score"]) for line in lines}
    before = {line["index"]: float(line["score"]) for line in reference}
    both = [index for index in scores if index in before]
    closed = all(line["expected"] in CLOSED for line in lines)
    return Point(
        level=level,
        num_asked=len(lines),
        accuracy=share(list(scores.values())),
        blind=share([float(line["blind"]) for line in lines]),
        constant=fmean(constant_scores(lines)),
        tokens=fmean(line["tokens"] for line in lines),
        num_failed=sum("failure" in line for line in lines),
        change=paired_means([before[n] for n in both], [scores[n] for n in both]) if both else None,
        says_yes=fmean(normalise(line["answer"]).split(" ")[0] == "yes" for line in lines)
        if closed
        else None,
    )


def constant_scores(lines: Sequence[Line]) -> list[float]:
    """Returns what the most common expected answer of its family, always given, gets of each line.

    It is chosen with the key, so this is more than a guesser could reach.
    """
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        answers[line["family"]][normalise(line["expected"])] += 1
    best = {family: counts.most_common(1)[0][0] for family, counts in answers.items()}
    return [float(normalise(line["expected"]) == best[line["family"]]) for line in lines]
