"""Model + task -> answers in a directory. A run that ends early goes on where it was.

Answers do not depend on how many are asked at once: a batch gives what each row gives alone, and
where answers are drawn (temperature above 0), a row's draw follows from the seed and its number.
"""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice

import torch

from onevision import __version__
from onevision.accelerate.packed import named_tensors
from onevision.conversation import Reply
from onevision.errors import DataError, OneVisionError
from onevision.eval.answers import AnswerFiles
from onevision.eval.assemble import Question, question
from onevision.eval.rows import Rows, plain
from onevision.eval.task import Profile, Task
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.generate.sampler import SamplingOptions

LIBRARIES = ("torch", "numpy", "pillow", "av", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a task is asked."""

    profile: Profile = "p24"
    batch_size: int = 1
    # The first rows alone; None is all.
    limit: int | None = None
    # Of drawn answers.
    seed: int = 0


def run_task(
    model: Model,
    rows: Rows,
    files: AnswerFiles,
    *,
    asking: Asking,
    name: str,
    place: str,
    fingerprint: str,
    tell: Callable[[int], object] = int,
) -> int:
    """Ask the rows that have no answer yet; returns how many have one now.

    `name`, `place` are what model and data are called; `fingerprint` is the model's. `tell` hears
    how many rows are done. Raises DataError for a row that cannot be asked: its file, row, field.
    """
    dtype = model.network.language_model.dtype
    files.begin(
        {
            "task": rows.task.plain(),
            "profile": asking.profile,
            "seed": asking.seed,
            "model": {"name": name, "fingerprint": fingerprint, "dtype": str(dtype)},
            "data": {
                "place": place,
                "files": [str(path.relative_to(rows.root)) for path in rows.files],
                "bytes": [path.stat().st_size for path in rows.files],
            },
        }
    )
    done = {line["row"] for line in files.answers()}
    num_done, size = len(done), 1 if rows.task.temperature else asking.batch_size
    remaining = _remaining(rows, done, limit=asking.limit)
    while batch := list(islice(remaining, size)):
        lines = _ask(model, rows.task, batch, seed=asking.seed)
        files.add(lines)
        num_done += len(lines)
        tell(num_done)
    return num_done


def network_fingerprint(model: Model) -> str:
    """Return what changes when a weight, the tokenizer or a rule of the inputs does."""
    digest = hashlib.sha256(model.config.to_json().encode())
    digest.update(model.processor.tokenizer.definition.encode())
    for part in filter(None, (model.network, model.decode_model)):
        for name, tensor in named_tensors(part):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def versions() -> dict[str, str]:
    """Return the versions that answers may depend on."""
    found = {name: version(name) for name in LIBRARIES}
    return {"onevision": __version__, "python": platform.python_version()} | found


def _remaining(rows: Rows, done: set[int], *, limit: int | None) -> Iterator[tuple[Question, Line]]:
    """Give the questions without an answer, each with its row as JSON."""
    taken = 0
    for row in range(len(rows)):
        if limit is not None and taken >= limit:
            return
        if row in done:
            taken += 1
            continue
        record = rows.read(row)
        if not rows.asked(record):
            continue
        taken += 1
        asked = question(rows, row, record)
        item = plain(record.fields, without=rows.task.images)
        if rows.task.images_optional:
            item["has_image"] = bool(asked.conversation.media)
        yield asked, item


def _ask(
    model: Model, task: Task, batch: Sequence[tuple[Question, Line]], *, seed: int
) -> list[Line]:
    began = time.monotonic()
    replies = _replies(model, task, [asked for asked, _ in batch], seed=seed)
    seconds = round((time.monotonic() - began) / len(batch), 3)
    return [
        {
            "row": asked.row,
            "prompt": asked.prompt,
            "answer": reply.text,
            "finish_reason": reply.finish_reason,
            "tokens_in": reply.usage.prompt_tokens,
            "tokens_out": reply.usage.completion_tokens,
            "seconds": seconds,
            "item": item,
        }
        for (asked, item), reply in zip(batch, replies, strict=True)
    ]


def _replies(model: Model, task: Task, questions: Sequence[Question], *, seed: int) -> list[Reply]:
    options: SamplingOptions = {"max_new_tokens": task.max_new_tokens}
    if task.temperature:
        options |= {"temperature": task.temperature, "seed": _seed(seed, questions[0].row)}
    try:
        return model.ask_all([q.conversation for q in questions], **options)
    except OneVisionError as error:
        if len(questions) == 1:
            raise DataError(f"{questions[0].where}: {error}") from error
        # Which row it is shows when each is asked alone.
        return [reply for q in questions for reply in _replies(model, task, [q], seed=seed)]


def _seed(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:6], "big")
