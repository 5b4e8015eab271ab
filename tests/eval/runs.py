"""Directories of results, written through the dataclass that `onevision eval` writes."""

from onevision.eval.answers import AnswerFiles
from onevision.eval.results import (
    AnsweredData,
    AnsweringModel,
    Headline,
    JudgeSummary,
    TaskResult,
    write_result,
)


def task_result(task, value, *, interval=None, metric="score", metrics=None, **changes):
    low, high = interval or (value, value)
    headline = Headline(
        metric=metric, value=value, low=low, high=high, num_resamples=10_000, num_units=100
    )
    fields = {
        "task": task,
        "title": task,
        "profile": "p24",
        "seed": 0,
        "model": AnsweringModel(name="tiny", fingerprint="f" * 32, dtype="torch.float32"),
        "data": AnsweredData(place="data", files=("test.parquet",), bytes=(9,)),
        "num_answers": 100,
        "complete": True,
        "num_cut_off": 0,
        "metrics": metrics or {metric: value},
        "headline": headline,
        "unit": "percent",
        "seconds": 1.5,
        "scored": "2026-11-28T12:00:00Z",
        "versions": {"onevision": "1"},
        "settings": {"prompt": "{question}"},
    }
    return TaskResult(**fields | changes)


def write_task(directory, task, value, *, model=None, **changes):
    """Write the results of one task of a run; the model is named by the directory."""
    named = AnsweringModel(name=model or directory.name, fingerprint="f" * 32, dtype="float32")
    (directory / task).mkdir(parents=True, exist_ok=True)
    write_result(task_result(task, value, model=named, **changes), AnswerFiles(directory / task))
    return directory / task / "results.json"


def write_run(directory):
    """Write one run with tasks of all groups."""
    write_task(directory, "ai2d", 0.6162, interval=(0.585, 0.647), unit="fraction")
    write_task(directory, "chartqa", 0.509, interval=(0.484, 0.535), unit="fraction")
    write_task(directory, "mmmu_val", 0.361, interval=(0.33, 0.392), unit="fraction")
    sums = {"mme_perception_score": 1475.2, "mme_cognition_score": 224.8}
    write_task(
        directory, "mme", 1475.2, metric="mme_perception_score", metrics=sums,
        interval=(1400, 1500), unit="points",
    )  # fmt: skip
    write_task(directory, "muirbench", 0.252, interval=(0.236, 0.268), unit="fraction")
    judge = {"judge": JudgeSummary(model="gpt", num_judged=9, num_unreadable=0), "unit": "points"}
    grades = {"score": 3.5, "correctness": 3.0, "detail": 3.5, "context": 4.0}
    write_task(directory, "videochatgpt_generic", 3.5, metrics=grades, **judge)
    write_task(directory, "videochatgpt_temporal", 3.0, **judge)
    write_task(directory, "videochatgpt_consistency", 4.0, **judge)
    write_task(directory, "rooms", 71.3, profile="now")
    return directory
