"""Own records for `onevision eval --data`: opens them, and prints where the samples are."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from onevision.cli.evaluation.benchmarks import Benchmarks
from onevision.cli.options import check_output
from onevision.errors import DataError, InputError
from onevision.eval.answers import AnswerFiles
from onevision.eval.own_data import OwnQuestions, Turns, open_own_questions, write_samples
from onevision.eval.preflight import check_questions
from onevision.eval.results import TaskResult
from onevision.eval.scoring.registry import SCORERS
from onevision.eval.task import Task
from onevision.plural import counted
from onevision.values import name_closest


@dataclass(kw_only=True)
class OwnData(Benchmarks):
    """One task: the user's records."""

    def _score(self, output: Path, task: Task, *, complete: bool | None) -> TaskResult:
        result = super()._score(output, task, complete=complete)
        print(f"every answer: {write_samples(AnswerFiles(output / task.name))}")
        return result


def open_own_data(
    path: Path,
    *,
    output: Path | None,
    model: str,
    turns: str,
    scorer: str,
    max_new_tokens: int,
    temperature: float | None,
    max_failed: float,
) -> OwnData:
    """Open a user's records, and try the first. Raises InputError, DataError."""
    if scorer not in SCORERS:
        raise InputError(f"--scorer: no scorer {scorer!r}{name_closest(scorer, SCORERS)}")
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give your records as --data, or a benchmark as "
            "--tasks"
        )
    place = output or Path("eval") / f"{_slug(path.resolve().stem)}-{_slug(model)}"
    check_output(place, directory=True)
    questions = open_own_questions(
        path, turns=_check_turns(turns), scorer=scorer, max_new_tokens=max_new_tokens
    )
    if temperature is not None:
        questions = replace(questions, task=replace(questions.task, temperature=temperature))
    _check_skipped(questions, max_failed=max_failed)
    check_questions(questions)
    task = questions.task
    return OwnData(
        profile="p24", tasks=(task,), output=place, place=str(path),
        questions={task.name: questions},
    )  # fmt: skip


def _check_skipped(questions: OwnQuestions, *, max_failed: float) -> None:
    """Says which records are left out; refuses more than may fail. Raises DataError."""
    skipped = questions.skipped
    if not skipped:
        return
    count = counted(len(skipped), "record")
    found = f"left out, since it cannot be asked: {count}; the first: {skipped[0]}"
    if len(skipped) > max(max_failed * (len(skipped) + len(questions)), max_failed > 0):
        raise DataError(f"{found} (--max-failed {max_failed:g} allows fewer)")
    print(f"warning: {found}", file=sys.stderr)


def _check_turns(turns: str) -> Turns:
    for known in get_args(Turns):
        if turns == known:
            return known
    raise InputError(f"--turns is {turns!r}; expected one of {', '.join(get_args(Turns))}")


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
