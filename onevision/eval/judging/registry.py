"""The id in a task file's `judge:` -> how that benchmark is judged and aggregated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import MappingProxyType

from onevision.errors import InputError
from onevision.eval.judging import images, rules, videos
from onevision.eval.judging.benchmark import JudgedBenchmark, Scores
from onevision.eval.judging.prompts import read_field
from onevision.eval.scoring.fields import whole
from onevision.eval.scoring.mmbench import COPY_STEP
from onevision.values import name_closest


def find_judged_benchmark(judge_id: str) -> JudgedBenchmark:
    """Returns the judged benchmark with this id. Raises InputError if there is none."""
    if judge_id not in JUDGED_BENCHMARKS:
        raise InputError(f"no judge {judge_id!r}{name_closest(judge_id, JUDGED_BENCHMARKS)}")
    return JUDGED_BENCHMARKS[judge_id]


def _mean_of(
    score: str, metric: str, *, scale: float = 1.0, minus: float = 0.0
) -> Callable[[Sequence[Scores]], dict[str, float]]:
    """Returns an aggregate with one metric: `scale` times (the mean of a score minus `minus`)."""
    return lambda scores: {metric: scale * (fmean(one[score] for one in scores) - minus)}


def _relative_score(scores: Sequence[Scores]) -> dict[str, float]:
    means = {name: fmean(one[name] for one in scores) for name in ("answer", "reference")}
    relative = 100 * means["answer"] / means["reference"]
    return {"relative_score": relative, "answer_score": means["answer"]}


def _mean_of_criteria(scores: Sequence[Scores]) -> dict[str, float]:
    means = {name: fmean(one[name] for one in scores) for name in scores[0]}
    return {"score": fmean(means.values()), **means}


def _video_accuracy(scores: Sequence[Scores]) -> dict[str, float]:
    right = 100 * fmean(one["right"] for one in scores)
    return {"accuracy": right, "score": fmean(one["score"] for one in scores)}


def _f1(scores: Sequence[Scores]) -> dict[str, float]:
    precision, recall = (100 * fmean(one[n] for one in scores) for n in ("precision", "recall"))
    total = precision + recall
    f1 = 2 * precision * recall / total if total else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}


def _video_chat(*criteria: str) -> JudgedBenchmark:
    return JudgedBenchmark(
        judge=videos.judge_by(*criteria),
        aggregate=_mean_of_criteria,
        unit="points",
        unreadable_scores=dict.fromkeys(criteria, 0.0),
    )


_ACCURACY = _mean_of("right", "accuracy", scale=100)
_LLAVA_BENCH = JudgedBenchmark(
    judge=images.judge_against_caption,
    aggregate=_relative_score,
    headline="relative_score",
    breakdown=("category",),
)
_MATHVERSE = JudgedBenchmark(
    judge=images.judge_mathverse_in_two_steps,
    aggregate=_ACCURACY,
    headline="accuracy",
    breakdown=("problem_version",),
)

JUDGED_BENCHMARKS: Mapping[str, JudgedBenchmark] = MappingProxyType(
    {
        "activitynetqa": JudgedBenchmark(
            judge=videos.judge_activitynetqa,
            aggregate=_video_accuracy,
            headline="accuracy",
            unreadable_scores={"right": 0.0, "score": 0.0},
        ),
        "correctness": JudgedBenchmark(
            judge=images.judge_correctness, aggregate=_ACCURACY, headline="accuracy"
        ),
        "dc100": JudgedBenchmark(
            judge=images.judge_imagedc,
            aggregate=_mean_of("score", "score"),
            sees_images=True,
            unreadable_scores={"score": 0.0},
        ),
        "dream1k": JudgedBenchmark(judge=videos.judge_events, aggregate=_f1, headline="f1"),
        "live_bench": JudgedBenchmark(
            judge=images.judge_live_bench,
            aggregate=_mean_of("rating", "score", scale=10),
            breakdown=("subtask",),
            sees_images=True,
        ),
        "llava_bench": _LLAVA_BENCH,
        "llava_wilder": JudgedBenchmark(
            judge=images.judge_against_image,
            aggregate=_relative_score,
            headline="relative_score",
            sees_images=True,
            unreadable_scores={"reference": -1.0, "answer": -1.0},
        ),
        "mathverse": _MATHVERSE,
        "mathverse_now": replace(_MATHVERSE, judge=images.judge_correctness),
        "mathvista": JudgedBenchmark(
            judge=rules.judge_mathvista,
            aggregate=_ACCURACY,
            headline="accuracy",
            breakdown=("question_type", "answer_type"),
        ),
        "mmbench": JudgedBenchmark(
            judge=rules.judge_mmbench,
            aggregate=_ACCURACY,
            headline="accuracy",
            breakdown=("category", "L2-category"),
            case_key=lambda item: whole(item, "index") % COPY_STEP,
        ),
        "mmvet": JudgedBenchmark(
            judge=images.judge_mmvet,
            aggregate=_mean_of("score", "score", scale=100),
            breakdown=("capability",),
        ),
        "vibe_eval": JudgedBenchmark(
            judge=images.judge_vibe_eval,
            aggregate=_mean_of("rating", "score", scale=25, minus=1),
            breakdown=("category",),
            unreadable_scores={"rating": 0.0},
        ),
        "video_dc499": _video_chat("detail"),
        "videochatgpt_consistency": JudgedBenchmark(
            judge=videos.judge_consistency,
            aggregate=_mean_of_criteria,
            unit="points",
            unreadable_scores={"consistency": 0.0},
            case_key=lambda item: read_field(item, "video_name"),
        ),
        "videochatgpt_generic": _video_chat("correctness", "detail", "context"),
        "videochatgpt_temporal": _video_chat("temporal"),
    }
)
