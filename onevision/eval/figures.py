"""The answers in a directory -> scores.jsonl and results.json: by rules, or by a judge."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from statistics import fmean

from onevision.errors import DataError
from onevision.eval.answers import RESULTS, AnswerFiles, explain_failed_write, read_json
from onevision.eval.judged import add_judged_metrics
from onevision.eval.judging.panel import Panel
from onevision.eval.question import QuestionSource
from onevision.eval.results import (
    AnsweredData,
    AnsweringModel,
    Headline,
    TaskResult,
    current_versions,
    write_result,
)
from onevision.eval.scoring.registry import SCORERS, Scorer
from onevision.eval.scoring.scorer import Score
from onevision.eval.statistics import Interval, bootstrap_interval, mean_interval
from onevision.eval.units import find_units, group_by_unit
from onevision.files import Line, write_json
from onevision.values import name_closest

SUBMISSION = "submission.json"
# An aggregate that differs from the mean of the scores by less than this is that mean.
SAME = 1e-9


@dataclass(frozen=True, kw_only=True)
class HeadlineMetric:
    """The metric that stands for a task, as a function of its scores."""

    task: str
    aggregate: Callable[[Sequence[Score]], dict[str, float]]
    # None is the first that `aggregate` returns.
    metric: str | None
    # The field of a score that names its unit; a unit sampled twice counts as two.
    unit_field: str | None

    def find(self, scores: Sequence[Score]) -> tuple[str, float]:
        """Returns the metric's name and value. Raises DataError if there is no such metric."""
        metrics = self.aggregate(scores)
        name = self.metric or next(iter(metrics))
        if name not in metrics:
            raise DataError(
                f"task {self.task!r}: its scorer has no metric {name!r}; it has "
                f"{', '.join(metrics)}"
            )
        return name, metrics[name]

    def __call__(self, units: Sequence[Sequence[Score]]) -> float:
        """Returns the value over resampled units."""
        field = self.unit_field
        scores = [
            {**one, field: f"{number}"} if field in one else one
            for number, unit in enumerate(units)
            for one in unit
        ]
        return self.find(scores)[1]

    def mean_scale(self, scores: Sequence[Score]) -> float | None:
        """Returns 1 or 100 if the value is that multiple of the scores' mean; None if it is not.

        It must hold for all scores and for every other one, which rules out most coincidences.
        """
        for scale in (1.0, 100.0):
            try:
                if all(
                    abs(self.find(part)[1] - scale * fmean(score_values(part))) < SAME
                    for part in (scores, scores[::2])
                ):
                    return scale
            except DataError:  # every other item is not a whole benchmark: not a plain mean
                return None
        return None


def score_answers(
    files: AnswerFiles,
    *,
    complete: bool | None = None,
    panel: Panel | None = None,
    questions: QuestionSource | None = None,
) -> TaskResult:
    """Scores the answers in a directory; writes and returns its results.

    `complete` says whether all rows have an answer; None keeps what was written before. With a
    `panel`, answers of a judged task are judged; `questions` hold the images that some judges see.
    Raises DataError, JudgeError.
    """
    settings, answers = files.settings(), files.answers()
    if not answers:
        raise DataError(f"{files.directory}: no answers yet; run the task first")
    task = settings["task"]
    data = settings["data"]
    result = TaskResult(
        task=task["name"],
        title=task["title"],
        profile=settings["profile"],
        seed=settings["seed"],
        keep=settings.get("keep", 1.0),
        model=AnsweringModel(**settings["model"]),
        data=AnsweredData(
            place=data["place"], files=tuple(data["files"]), bytes=tuple(data["bytes"])
        ),
        num_answers=len(answers),
        complete=was_complete(files) if complete is None else complete,
        num_cut_off=sum(line["finish_reason"] == "length" for line in answers),
        num_failed=sum(bool(line.get("failure")) for line in answers),
        first_failure=next((line["failure"] for line in answers if line.get("failure")), None),
        needs_judge=task["judge"] if task["scorer"] is None else None,
        submission=SUBMISSION if task["submission"] else None,
        seconds=round(sum(line["seconds"] for line in answers), 3),
        scored=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions=current_versions(),
        settings=task,
    )
    if panel is not None and task["judge"] is not None:
        result = add_judged_metrics(result, files, answers, panel=panel, questions=questions)
    elif task["scorer"] is not None:
        result = _add_metrics(result, files, answers)
    if task["submission"]:
        _write_submission(files, task["submission"], answers)
    write_result(result, files)
    return result


def find_scorer(task: Line) -> Scorer:
    """Returns a task's scorer. Raises DataError if it has none."""
    name = task["scorer"]
    if name is None:
        judge = f"a judge scores it ({task['judge']})" if task["judge"] else "it has no local score"
        raise DataError(f"task {task['name']!r}: {judge}")
    if name not in SCORERS:
        raise DataError(f"task {task['name']!r}: no scorer {name!r}{name_closest(name, SCORERS)}")
    return SCORERS[name]


def headline_metric(task: Line, scorer: Scorer) -> HeadlineMetric:
    """Returns the headline of a task that rules score."""
    return HeadlineMetric(
        task=task["name"],
        aggregate=scorer.aggregate,
        metric=task["metric"],
        unit_field=task["unit"],
    )


def apply_rules(files: AnswerFiles, scorer: Scorer, answers: Sequence[Line]) -> list[Score]:
    """Scores answers by rules. Raises DataError, which names the row."""
    scores: list[Score] = []
    for line in answers:
        try:
            scores.append(scorer.score(line["answer"], line["item"]))
        except DataError as error:
            raise DataError(f"{files.directory}, row {line['row']}: {error}") from error
    return scores


def score_values(scores: Sequence[Score]) -> list[float]:
    """Returns each score's own number."""
    values = []
    for one in scores:
        value = one["score"]
        assert isinstance(value, int | float), "a scorer's `score` is a number"
        values.append(float(value))
    return values


def _add_metrics(result: TaskResult, files: AnswerFiles, answers: Sequence[Line]) -> TaskResult:
    task = dict(result.settings)
    scorer = find_scorer(task)
    scores = apply_rules(files, scorer, answers)
    files.write_scores(dict(zip((line["row"] for line in answers), scores, strict=True)))
    headline, units = headline_metric(task, scorer), find_units(task, answers)
    scale = headline.mean_scale(scores)
    if scale is None:
        interval = bootstrap_interval(group_by_unit(scores, units), headline)
    else:
        interval = mean_interval([scale * value for value in score_values(scores)], units=units)
    return replace(
        result,
        metrics=scorer.aggregate(scores),
        headline=_to_headline(headline.find(scores)[0], interval),
        unit=scorer.unit,
    )


def _to_headline(metric: str, interval: Interval) -> Headline:
    return Headline(metric=metric, **asdict(interval))


def was_complete(files: AnswerFiles) -> bool:
    """Whether earlier results, of any version, say that all rows had an answer."""
    with suppress(DataError):
        return bool(read_json(files.directory / RESULTS).get("complete"))
    return False


def _write_submission(files: AnswerFiles, keys: Mapping[str, str], answers: Sequence[Line]) -> None:
    """Writes answers as the benchmark's server takes them: a list of objects."""
    entries = [
        {
            key: line["answer"] if name == "answer" else line["item"].get(name)
            for key, name in keys.items()
        }
        for line in answers
    ]
    path = files.directory / SUBMISSION
    with explain_failed_write(path):
        write_json(path, entries)
