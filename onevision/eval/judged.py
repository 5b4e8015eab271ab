"""The answers of a judged task + a panel of judges -> their verdicts, metrics and interval."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from onevision.errors import DataError
from onevision.eval.answers import AnswerFiles
from onevision.eval.judging.benchmark import Scores
from onevision.eval.judging.panel import Panel, PanelVerdicts, judge_by_panel
from onevision.eval.judging.registry import find_judged_benchmark
from onevision.eval.judging.run import Verdict, aggregate_verdicts
from onevision.eval.question import QuestionSource
from onevision.eval.results import Headline, JudgeSummary, TaskResult
from onevision.eval.scoring.scorer import Item
from onevision.eval.statistics import bootstrap_interval
from onevision.eval.units import find_units, group_by_unit
from onevision.files import Line


def add_judged_metrics(
    result: TaskResult,
    files: AnswerFiles,
    answers: Sequence[Line],
    *,
    panel: Panel,
    questions: QuestionSource | None,
) -> TaskResult:
    """Has a panel judge the answers; writes the verdicts and returns the results with metrics.

    `questions` hold the images, which some judges see. An answer whose image is missing or damaged
    is not judged there, and counts as unreadable. Raises DataError, JudgeError.
    """
    task = dict(result.settings)
    judge_id = task["judge"]
    benchmark = find_judged_benchmark(judge_id)
    if benchmark.sees_images and questions is None:
        raise DataError(f"task {task['name']!r}: its judge sees the images; give their --data")
    shown = questions if benchmark.sees_images else None
    before = panel.usage
    found = _judge(judge_id, answers, shown, panel)
    files.write_scores(dict(zip((line["row"] for line in answers), found.verdicts, strict=True)))
    total = aggregate_verdicts(judge_id, found.verdicts)
    several = len(found.passes) > 1
    summary = JudgeSummary(
        model=panel.name,
        num_judged=total.num_judged,
        num_unreadable=total.num_unreadable,
        passes=found.passes,
        std=found.std,
        share_changed=found.share_changed if several else None,
        usage=panel.usage.since(before),
    )
    if not total.metrics:
        return replace(result, needs_judge=judge_id, judge=summary)

    def compute(units: Sequence[Sequence[Scores]]) -> float:
        return benchmark.aggregate([scores for unit in units for scores in unit])[total.headline]

    readable = [
        (verdict["scores"], unit)
        for verdict, unit in zip(found.verdicts, find_units(task, answers), strict=True)
        if verdict["scores"]
    ]
    units = group_by_unit([scores for scores, _ in readable], [unit for _, unit in readable])
    return replace(
        result,
        metrics=total.metrics,
        headline=Headline(metric=total.headline, **asdict(bootstrap_interval(units, compute))),
        unit=benchmark.unit,
        needs_judge=None,
        judge=summary,
    )


def _judge(
    judge_id: str, answers: Sequence[Line], shown: QuestionSource | None, panel: Panel
) -> PanelVerdicts:
    """Judges the answers; those whose image cannot be shown have a verdict that says so."""
    if shown is None:
        items = [line["item"] for line in answers]
        return judge_by_panel(judge_id, items, [line["answer"] for line in answers], panel)
    posed = [_show(line, shown) for line in answers]
    can_see = [number for number, one in enumerate(posed) if not isinstance(one, str)]
    found = judge_by_panel(
        judge_id,
        [one for one in posed if not isinstance(one, str)],
        [answers[number]["answer"] for number in can_see],
        panel,
    )
    verdicts = [_refuse(one) if isinstance(one, str) else None for one in posed]
    for number, verdict in zip(can_see, found.verdicts, strict=True):
        verdicts[number] = verdict
    return replace(found, verdicts=[one for one in verdicts if one is not None])


def _show(line: Line, questions: QuestionSource) -> Item | str:
    """Returns the row that a judge reads, with its images; or why they cannot be shown."""
    if reason := line.get("failure"):
        return str(reason)
    question = questions.pose(line["row"])
    if question is None or question.conversation is None:
        return question.problem or "no image" if question else "the data no longer ask this row"
    images = [medium.source for medium in question.conversation.media]
    return {**line["item"], "images": images}


def _refuse(reason: str) -> Verdict:
    return {"scores": {}, "unreadable": f"not judged: {reason}", "groups": [], "judged_with": None}
