"""Held-out questions and losses -> scores before and after, in the model card and result.json."""

import json
from collections.abc import Callable
from pathlib import Path

from onevision.errors import OneVisionError
from onevision.eval.answers import AnswerFiles
from onevision.eval.assemble import TaskQuestions
from onevision.eval.benchmark import EvalConfig, network_fingerprint, run_task
from onevision.eval.figures import score_answers
from onevision.eval.rows import open_rows
from onevision.eval.statistics import Interval, proportion_interval
from onevision.eval.task import find_tasks
from onevision.files import Line, write_json, write_text
from onevision.generate.answer import Model, load
from onevision.plural import counted
from onevision.train.finetune.page import Change, held_out_section
from onevision.train.finetune.questions import Questions
from onevision.train.finetune.request import FinetuneDirectory
from onevision.train.finish import CARD
from onevision.train.report.card import HeldoutScore, replace_scores
from onevision.train.report.curves import REPORT, add_section
from onevision.train.report.notes import VALIDATION, read_notes
from onevision.train.validation.best import read_losses

BATCH_SIZE = 8
METRIC_WORDS = {"exact_match": "exact match", "rouge_l": "ROUGE-L"}
WIDTH = 1.96  # of a 95 % interval: standard errors to each side


def ask_questions(
    model: Model | str | Path,
    questions: Questions,
    directory: FinetuneDirectory,
    *,
    when: str,
    device: str = "cpu",
    verify: bool = True,
    on_progress: Callable[[int], object] = int,
) -> dict[str, Interval]:
    """Asks a model the held-out questions; returns the headline of each task, by its metric.

    Answers that were given before are kept. Raises CheckpointError, DataError.
    """
    scores: dict[str, Interval] = {}
    loaded = model if isinstance(model, Model) else load(model, device=device, verify=verify)
    fingerprint = network_fingerprint(loaded)
    for task in find_tasks([str(path) for path in questions.tasks]):
        asked = TaskQuestions(open_rows(task, str(directory.questions)))
        files = AnswerFiles(directory.answers / when / task.name)
        run_task(
            loaded,
            asked,
            files,
            config=EvalConfig(batch_size=BATCH_SIZE),
            name=str(model) if not isinstance(model, Model) else when,
            place=str(directory.questions),
            fingerprint=fingerprint,
            on_progress=on_progress,
        )
        headline = score_answers(files, complete=True).headline
        if headline is not None:
            kind = METRIC_WORDS.get(headline.metric, headline.metric)
            name = f"{kind}, video" if task.video else kind
            scores[name] = _widen(headline)
    return scores


def _widen(headline: Interval) -> Interval:
    """Returns the interval of `onevision eval`; where all are right, or none is, Wilson's.

    To resample equal answers would say that there is no doubt.
    """
    if headline.low == headline.high and headline.value in (0.0, 1.0):
        return proportion_interval(round(headline.value * headline.num_units), headline.num_units)
    return headline


def compare(
    directory: FinetuneDirectory,
    *,
    before: dict[str, Interval],
    after: dict[str, Interval],
    keep_best: bool,
) -> tuple[Change, ...]:
    """Returns what has changed on the held-out samples: the loss, and the scores of answers."""
    changes: list[Change] = []
    losses = read_losses(directory.path)
    written = losses.written(keep_best=keep_best)
    if written is not None and 0 in losses.by_step:
        lines = read_notes(directory.path / VALIDATION)
        error = {line["step"]: line.get("standard_error") for line in lines}[written]
        after_loss = losses.by_step[written]
        changes.append(
            Change(
                name="held-out loss",
                before=losses.by_step[0],
                after=after_loss,
                low=None if error is None else max(0.0, after_loss - WIDTH * error),
                high=None if error is None else after_loss + WIDTH * error,
                num_samples=lines[-1]["samples"],
                is_share=False,
            )
        )
    changes += [
        Change(
            name=name,
            before=before[name].value,
            after=one.value,
            low=one.low,
            high=one.high,
            num_samples=one.num_units,
        )
        for name, one in after.items()
        if name in before
    ]
    return tuple(changes)


def write_outcome(
    directory: FinetuneDirectory,
    changes: tuple[Change, ...],
    *,
    asking: str,
    training: str,
    is_chosen: bool,
) -> None:
    """Adds the scores to card and report, then writes result.json, which ends the job.

    `asking` is the command that measured the answers, `training` the one that measured the loss;
    `is_chosen` says that the held-out loss decided which step's weights were written.
    """
    scores = {
        f"{one.name.removeprefix('held-out ')} of {counted(one.num_samples, 'held-out sample')} "
        f"(before: {one.words(one.before)})":
        HeldoutScore(
            value=one.words(one.after), command=asking if one.is_share else training
        )
        for one in changes
    }  # fmt: skip
    card = directory.run.checkpoint / CARD
    if scores and card.is_file():
        write_text(card, replace_scores(card.read_text(encoding="utf-8"), scores))
    if (directory.path / REPORT).is_file():
        add_section(
            directory.path / REPORT, held_out_section(directory, changes, is_chosen=is_chosen)
        )
    values = [vars(one) for one in changes]
    write_json(directory.result, {"format_version": 1, "held_out": values})


def read_outcome(directory: FinetuneDirectory) -> tuple[Change, ...]:
    """Reads what `write_outcome` wrote; () if it cannot be read."""
    try:
        values: Line = json.loads(directory.result.read_text(encoding="utf-8"))
        return tuple(Change(**one) for one in values["held_out"])
    except (OSError, ValueError, KeyError, TypeError, OneVisionError):
        return ()
