"""Model + questions -> answers in a directory. An interrupted run continues where it stopped.

A question whose image or video is missing or damaged, or whose prompt is too long, has an empty
answer and its reason under "failure"; it is scored like any other answer and asked again when the
run continues. More of them than `EvalConfig.max_failed` allows end the run.

Answers do not depend on the batch size: a row in a batch gets the answer it gets alone, and sampled
answers (temperature above 0) depend on the seed and the row's number.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Unpack

import torch

from onevision.accelerate.packed import named_tensors
from onevision.conversation import Conversation, Reply, check_keep
from onevision.errors import (
    ConfigError,
    ContextLengthError,
    DataError,
    MediaError,
    OneVisionError,
)
from onevision.eval.answers import AnswerFiles
from onevision.eval.question import Question, QuestionSource
from onevision.eval.task import Profile, Task
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.generate.sampler import SamplingOptions
from onevision.plural import counted


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How a task is run."""

    profile: Profile = "p24"
    batch_size: int = 1
    # The number of rows, from the first; None is all.
    limit: int | None = None
    # Of sampled answers.
    seed: int = 0
    # The share of the rows that may have no answer, for want of an image or because the prompt is
    # too long. Above 0, one row always may.
    max_failed: float = 0.05
    # The share of visual tokens that the model reads.
    keep: float = 1.0

    def __post_init__(self) -> None:
        check_keep(self.keep)
        if not 0 <= self.max_failed <= 1:
            raise ConfigError(f"max_failed is {self.max_failed}; expected a share from 0 to 1")

    def count_allowed(self, num_rows: int) -> int:
        """Returns how many of so many rows may fail."""
        asked = num_rows if self.limit is None else min(num_rows, self.limit)
        return max(int(self.max_failed * asked), int(self.max_failed > 0))


def run_task(
    model: Model,
    questions: QuestionSource,
    files: AnswerFiles,
    *,
    config: EvalConfig,
    name: str,
    place: str,
    fingerprint: str,
    on_progress: Callable[[int], object] = int,
) -> int:
    """Answers the questions that have no answer yet; returns how many rows are done.

    `name` and `place` are what the user calls the model and the data; `fingerprint` is the model's.
    `on_progress` is called with the number of rows done. Raises DataError, which names file and
    row, for a row without a field that the task needs, or if too many cannot be asked.
    """
    task = questions.task
    dtype = model.network.language_model.dtype
    files.begin(
        {
            "task": task.plain(),
            "profile": config.profile,
            "seed": config.seed,
            **({"keep": config.keep} if config.keep < 1 else {}),
            "model": {"name": name, "fingerprint": fingerprint, "dtype": str(dtype)},
            "data": {
                "place": place,
                "files": list(questions.files),
                "bytes": list(questions.files.values()),
            },
        }
    )
    before = {line["row"]: line for line in files.answers()}
    done = {row for row, line in before.items() if not line.get("failure")}
    failed: list[str] = []
    num_done, size = len(done), 1 if task.temperature else config.batch_size
    remaining = _remaining(questions, done, limit=config.limit)
    while batch := list(islice(remaining, size)):
        lines = _answer(model, task, batch, config)
        files.add([line for line in lines if line != before.get(line["row"])])
        num_done += len(lines)
        on_progress(num_done)
        failed += [line["failure"] for line in lines if line["failure"]]
        if len(failed) > (allowed := config.count_allowed(len(questions))):
            raise DataError(
                f"task {task.name!r}: {counted(len(failed), 'row')} cannot be asked, "
                f"{allowed} may fail (--max-failed {config.max_failed:g}); the first is {failed[0]}"
            )
    return num_done


def network_fingerprint(model: Model) -> str:
    """Returns a hash of the weights, the tokenizer and the input rules."""
    digest = hashlib.sha256(model.config.to_json().encode())
    digest.update(model.processor.tokenizer.definition.encode())
    for name, tensor in named_tensors(model.network):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _remaining(
    questions: QuestionSource, done: set[int], *, limit: int | None
) -> Iterator[Question]:
    """Yields the questions without an answer."""
    taken = 0
    for row in range(len(questions)):
        if limit is not None and taken >= limit:
            return
        if row in done:
            taken += 1
        elif question := questions.pose(row):
            taken += 1
            yield question


def _answer(model: Model, task: Task, batch: Sequence[Question], config: EvalConfig) -> list[Line]:
    began = time.monotonic()
    outcomes = _generate(model, task, batch, config)
    seconds = round((time.monotonic() - began) / len(batch), 3)
    return [
        _failed_line(question, outcome)
        if isinstance(outcome, str)
        else {
            "row": question.row,
            "prompt": question.prompt,
            "answer": outcome.text,
            "finish_reason": outcome.finish_reason,
            "failure": None,
            "tokens_in": outcome.usage.prompt_tokens,
            "tokens_out": outcome.usage.completion_tokens,
            "seconds": seconds,
            "item": question.item,
        }
        for question, outcome in zip(batch, outcomes, strict=True)
    ]


def _failed_line(question: Question, reason: str) -> Line:
    return {
        "row": question.row,
        "prompt": question.prompt,
        "answer": "",
        "finish_reason": "failed",
        "failure": reason,
        "tokens_in": 0,
        "tokens_out": 0,
        "seconds": 0.0,
        "item": question.item,
    }


def _generate(
    model: Model, task: Task, batch: Sequence[Question], config: EvalConfig
) -> list[Reply | str]:
    """Returns the reply to each question, or the reason why it cannot be asked."""
    asked = [(q, q.conversation) for q in batch if q.conversation is not None]
    found = iter(_ask(model, task, asked, config))
    return [q.problem or "" if q.conversation is None else next(found) for q in batch]


def _ask(
    model: Model, task: Task, batch: Sequence[tuple[Question, Conversation]], config: EvalConfig
) -> list[Reply | str]:
    if not batch:
        return []
    options: SamplingOptions = {"max_new_tokens": task.max_new_tokens}
    question, _ = batch[0]
    if task.temperature:
        options |= {"temperature": task.temperature, "seed": _row_seed(config.seed, question.row)}
    conversations = [conversation for _, conversation in batch]
    found: list[Reply | str] = []
    outcomes = ask_where_possible(model, conversations, keep=config.keep, **options)
    for (question, _), outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, Reply):
            found.append(outcome)
        elif isinstance(outcome, MediaError | ContextLengthError):
            found.append(f"{question.where}: {outcome}")
        else:
            raise DataError(f"{question.where}: {outcome}") from outcome
    return found


def ask_where_possible(
    model: Model,
    conversations: Sequence[Conversation],
    *,
    keep: float = 1.0,
    **options: Unpack[SamplingOptions],
) -> list[Reply | OneVisionError]:
    """Returns the reply to each conversation, or why it has none; options are `Model.ask_all`'s."""
    try:
        return [*model.ask_all(conversations, keep=keep, **options)]
    except OneVisionError as error:
        if len(conversations) == 1:
            return [error]
    return [  # asking each alone shows which one it is
        outcome
        for one in conversations
        for outcome in ask_where_possible(model, [one], keep=keep, **options)
    ]


def _row_seed(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:6], "big")
