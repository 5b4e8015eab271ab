"""Answers on the disk -> scores, figures with their intervals, comparisons of two runs."""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from onevision.errors import DataError
from onevision.eval.answers import RUN, AnswerFiles, explain_failed_write
from onevision.eval.benchmark import versions
from onevision.eval.scoring.registry import SCORERS, Scorer
from onevision.eval.statistics import (
    Difference,
    Interval,
    McNemar,
    bootstrap_interval,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    paired_means,
)
from onevision.files import Line, write_json

SUBMISSION = "submission.json"
# An aggregate that is so near the mean of the scores is that mean.
SAME = 1e-9

Score = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One task in two runs, over the rows that both have answered."""

    task: str
    metric: str
    first: float
    second: float
    num_items: int
    difference: Difference
    # Where every score is 0 or 1.
    mcnemar: McNemar | None


def score(files: AnswerFiles, *, complete: bool | None = None) -> Line:
    """Score the answers of a directory and write its results, which are returned.

    `complete` says whether all rows have an answer; None leaves what was written before.
    Raises DataError.
    """
    settings, answers = files.settings(), files.answers()
    if not answers:
        raise DataError(f"{files.directory}: no answers yet; run the task first")
    task = settings["task"]
    results: Line = {
        "task": task["name"],
        "title": task["title"],
        "num_answers": len(answers),
        "complete": _was_complete(files) if complete is None else complete,
        "headline": None,
        "metrics": {},
        "seconds": round(sum(line["seconds"] for line in answers), 3),
        "answers_cut_off": sum(line["finish_reason"] == "length" for line in answers),
        "scored": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
    } | {name: settings[name] for name in ("profile", "seed", "model", "data", "task")}
    results["task"], results["settings"] = task["name"], task
    if task["scorer"] is not None:
        scores = _scores(files, _scorer(task), answers)
        files.write_scores(dict(zip((line["row"] for line in answers), scores, strict=True)))
        results |= _figures(task, _scorer(task), scores, _units(task, answers))
    results["needs_judge"] = task["judge"] if not results["metrics"] else None
    if task["submission"]:
        _write_submission(files.directory / SUBMISSION, task["submission"], answers)
        results["submission"] = SUBMISSION
    files.write_results(results)
    return results


def runs_in(directory: Path) -> dict[str, AnswerFiles]:
    """Return the runs of a directory by task: it is one itself, or holds some. Raises DataError."""
    places = [directory, *sorted(p for p in directory.glob("*") if p.is_dir())]
    found = [AnswerFiles(place) for place in places if (place / RUN).is_file()]
    if not found:
        raise DataError(f"{directory}: no answers in it; give what was --output of a run")
    return {files.settings()["task"]["name"]: files for files in found}


def compare(first: AnswerFiles, second: AnswerFiles) -> Comparison:
    """Compare two runs of a task. Raises DataError where they have no row in common."""
    task = first.settings()["task"]
    scorer = _scorer(task)
    if task["scorer"] != second.settings()["task"]["scorer"]:
        raise DataError(f"{second.directory}: scored otherwise than {first.directory}")
    lines = {line["row"]: line for line in first.answers()}
    others = {line["row"]: line for line in second.answers()}
    shared = [row for row in lines if row in others]
    if not shared:
        raise DataError(f"{first.directory} and {second.directory} have no row in common")
    for row in shared:
        if lines[row]["item"] != others[row]["item"]:
            raise DataError(f"row {row} is another question in {second.directory}; compare alike")
    mine = _scores(first, scorer, [lines[row] for row in shared])
    theirs = _scores(second, scorer, [others[row] for row in shared])
    return _comparison(task, scorer, mine, theirs, _units(task, [lines[r] for r in shared]))


def _comparison(
    task: Line,
    scorer: Scorer,
    mine: Sequence[Score],
    theirs: Sequence[Score],
    units: Sequence[Hashable],
) -> Comparison:
    a, b = _numbers(mine), _numbers(theirs)
    scale = _mean_scale(task, scorer, mine), _mean_scale(task, scorer, theirs)
    if scale[0] is not None and scale[0] == scale[1]:
        difference = paired_means([scale[0] * x for x in a], [scale[0] * x for x in b], units=units)
    else:
        difference = paired_bootstrap(
            _grouped(mine, units), _grouped(theirs, units), _Headline(task, scorer)
        )
    right = all(x in (0, 1) for x in (*a, *b))
    return Comparison(
        task=task["name"],
        metric=_headline(task, scorer, mine)[0],
        first=_headline(task, scorer, mine)[1],
        second=_headline(task, scorer, theirs)[1],
        num_items=len(a),
        difference=difference,
        mcnemar=mcnemar([x == 1 for x in a], [x == 1 for x in b]) if right else None,
    )


def _scorer(task: Line) -> Scorer:
    name = task["scorer"]
    if name is None:
        judge = f"a judge scores it ({task['judge']})" if task["judge"] else "it has no local score"
        raise DataError(f"task {task['name']!r}: {judge}")
    if name not in SCORERS:
        raise DataError(
            f"task {task['name']!r}: no scorer {name!r}; expected one of {', '.join(SCORERS)}"
        )
    return SCORERS[name]


def _scores(files: AnswerFiles, scorer: Scorer, answers: Sequence[Line]) -> list[Score]:
    """Score answers. Raises DataError that names the row."""
    scores: list[Score] = []
    for line in answers:
        try:
            scores.append(scorer.score(line["answer"], line["item"]))
        except DataError as error:
            raise DataError(f"{files.directory}, row {line['row']}: {error}") from error
    return scores


def _figures(
    task: Line, scorer: Scorer, scores: Sequence[Score], units: Sequence[Hashable]
) -> dict[str, Any]:  # Any: JSON values
    name, _ = _headline(task, scorer, scores)
    interval = _interval(task, scorer, scores, units)
    return {
        "metrics": scorer.aggregate(scores),
        "headline": {"metric": name, **asdict(interval)},
    }


def _interval(
    task: Line, scorer: Scorer, scores: Sequence[Score], units: Sequence[Hashable]
) -> Interval:
    scale = _mean_scale(task, scorer, scores)
    if scale is not None:
        return mean_interval([scale * value for value in _numbers(scores)], units=units)
    return bootstrap_interval(_grouped(scores, units), _Headline(task, scorer))


def _headline(task: Line, scorer: Scorer, scores: Sequence[Score]) -> tuple[str, float]:
    figures = scorer.aggregate(scores)
    name = task["metric"] or next(iter(figures))
    if name not in figures:
        raise DataError(
            f"task {task['name']!r}: its scorer gives {', '.join(figures)}, but no {name!r}"
        )
    return name, figures[name]


@dataclass(frozen=True)
class _Headline:
    """The headline of units that were drawn; a unit drawn twice is two units."""

    task: Line
    scorer: Scorer

    def __call__(self, units: Sequence[Sequence[Score]]) -> float:
        name = self.task["unit"]
        scores = [
            {**one, name: f"{number}"} if name in one else one
            for number, unit in enumerate(units)
            for one in unit
        ]
        return _headline(self.task, self.scorer, scores)[1]


def _mean_scale(task: Line, scorer: Scorer, scores: Sequence[Score]) -> float | None:
    """Return what the headline is of the scores' mean, 1 or 100; None where it is no such mean.

    It must hold for all items and for every other one: a chance equality of both is not likely.
    """
    for scale in (1.0, 100.0):
        try:
            if all(
                abs(_headline(task, scorer, part)[1] - scale * fmean(_numbers(part))) < SAME
                for part in (scores, scores[::2])
            ):
                return scale
        except DataError:  # every other item is no whole benchmark: no plain mean
            return None
    return None


def _numbers(scores: Sequence[Score]) -> list[float]:
    numbers = []
    for one in scores:
        value = one["score"]
        assert isinstance(value, int | float), "a scorer's `score` is a number"
        numbers.append(float(value))
    return numbers


def _units(task: Line, answers: Sequence[Line]) -> list[Hashable]:
    """Return the unit of each row: the value of the task's field, or the row itself."""
    name = task["unit"]
    if name is None:
        return [line["row"] for line in answers]
    name, _, divisor = name.partition(" % ")
    values = [line["item"].get(name, f"row {line['row']}") for line in answers]
    return [str(int(value) % int(divisor)) if divisor else str(value) for value in values]


def _grouped(scores: Sequence[Score], units: Sequence[Hashable]) -> list[list[Score]]:
    found: dict[Hashable, list[Score]] = {}
    for one, unit in zip(scores, units, strict=True):
        found.setdefault(unit, []).append(one)
    return list(found.values())


def _was_complete(files: AnswerFiles) -> bool:
    try:
        return bool(files.results()["complete"])
    except DataError:
        return False


def _write_submission(path: Path, keys: Mapping[str, str], answers: Sequence[Line]) -> None:
    """Write answers as the benchmark's server takes them: a list of objects."""
    entries = [
        {
            key: line["answer"] if name == "answer" else line["item"].get(name)
            for key, name in keys.items()
        }
        for line in answers
    ]
    with explain_failed_write(path):
        write_json(path, entries)
