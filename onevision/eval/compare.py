"""Two runs of a task -> how much their headlines differ, over the rows that both have answered."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onevision.errors import DataError
from onevision.eval.answers import RUN, AnswerFiles
from onevision.eval.figures import (
    apply_rules,
    find_scorer,
    headline_metric,
    score_values,
)
from onevision.eval.scoring.registry import Scorer
from onevision.eval.scoring.scorer import Score
from onevision.eval.statistics import (
    HeadlineDifference,
    McNemar,
    mcnemar,
    paired_bootstrap,
    paired_means,
)
from onevision.eval.units import find_units, group_by_unit
from onevision.files import Line


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """One task in two runs, over the rows that both have answered."""

    task: str
    metric: str
    first: float
    second: float
    num_items: int
    difference: HeadlineDifference
    # None unless every score is 0 or 1.
    mcnemar: McNemar | None


def find_runs(directory: Path) -> dict[str, AnswerFiles]:
    """Returns the runs in a directory by task: itself, or its subdirectories. Raises DataError."""
    places = [directory, *sorted(path for path in directory.glob("*") if path.is_dir())]
    found = [AnswerFiles(place) for place in places if (place / RUN).is_file()]
    if not found:
        raise DataError(f"{directory}: no answers in it; give the --output of a run")
    return {files.settings()["task"]["name"]: files for files in found}


def compare_runs(first: AnswerFiles, second: AnswerFiles) -> RunComparison:
    """Compares two runs of a task. Raises DataError if they have no row in common."""
    task = first.settings()["task"]
    scorer = find_scorer(task)
    if task["scorer"] != second.settings()["task"]["scorer"]:
        raise DataError(f"{second.directory}: its scorer is not that of {first.directory}")
    lines = {line["row"]: line for line in first.answers()}
    others = {line["row"]: line for line in second.answers()}
    shared = [row for row in lines if row in others]
    if not shared:
        raise DataError(f"{first.directory} and {second.directory} have no row in common")
    for row in shared:
        if lines[row]["item"] != others[row]["item"]:
            raise DataError(f"row {row} is another question in {second.directory}")
    return _compare_scores(
        task,
        scorer,
        apply_rules(first, scorer, [lines[row] for row in shared]),
        apply_rules(second, scorer, [others[row] for row in shared]),
        find_units(task, [lines[row] for row in shared]),
    )


def _compare_scores(
    task: Line,
    scorer: Scorer,
    first: Sequence[Score],
    second: Sequence[Score],
    units: Sequence[Hashable],
) -> RunComparison:
    headline = headline_metric(task, scorer)
    a, b = score_values(first), score_values(second)
    scale = headline.mean_scale(first)
    if scale is not None and scale == headline.mean_scale(second):
        difference = paired_means([scale * x for x in a], [scale * x for x in b], units=units)
    else:
        difference = paired_bootstrap(
            group_by_unit(first, units), group_by_unit(second, units), headline
        )
    binary = all(value in (0, 1) for value in (*a, *b))
    return RunComparison(
        task=task["name"],
        metric=headline.find(first)[0],
        first=headline.find(first)[1],
        second=headline.find(second)[1],
        num_items=len(a),
        difference=difference,
        mcnemar=mcnemar([x == 1 for x in a], [x == 1 for x in b]) if binary else None,
    )
