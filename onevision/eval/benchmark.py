"""Model + task -> answers in a directory. An interrupted run continues where it stopped.

Answers do not depend on the batch size: a row in a batch gets the answer it gets alone, and sampled
answers (temperature above 0) depend on the seed and the row's number.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from onevision.accelerate.packed import named_tensors
from onevision.conversation import Reply
from onevision.errors import DataError, OneVisionError
from onevision.eval.answers import AnswerFiles
from onevision.eval.assemble import AssembledRow, assemble_row
from onevision.eval.rows import Rows, row_to_json
from onevision.eval.task import Profile, Task
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.generate.sampler import SamplingOptions


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How a task is run."""

    profile: Profile = "p24"
    batch_size: int = 1
    # The number of rows, from the first; None is all.
    limit: int | None = None
    # Of sampled answers.
    seed: int = 0


def run_task(
    model: Model,
    rows: Rows,
    files: AnswerFiles,
    *,
    config: EvalConfig,
    name: str,
    place: str,
    fingerprint: str,
    on_progress: Callable[[int], object] = int,
) -> int:
    """Answers the rows that have no answer yet; returns how many have one now.

    `name` and `place` are what the user calls the model and the data; `fingerprint` is the model's.
    `on_progress` is called with the number of rows done. Raises DataError for a row that cannot be
    asked, naming its file, row and field.
    """
    dtype = model.network.language_model.dtype
    files.begin(
        {
            "task": rows.task.plain(),
            "profile": config.profile,
            "seed": config.seed,
            "model": {"name": name, "fingerprint": fingerprint, "dtype": str(dtype)},
            "data": {
                "place": place,
                "files": [str(path.relative_to(rows.root)) for path in rows.files],
                "bytes": [path.stat().st_size for path in rows.files],
            },
        }
    )
    done = {line["row"] for line in files.answers()}
    num_done, size = len(done), 1 if rows.task.temperature else config.batch_size
    remaining = _remaining(rows, done, limit=config.limit)
    while batch := list(islice(remaining, size)):
        lines = _answer(model, rows.task, batch, seed=config.seed)
        files.add(lines)
        num_done += len(lines)
        on_progress(num_done)
    return num_done


def network_fingerprint(model: Model) -> str:
    """Returns a hash of the weights, the tokenizer and the input rules."""
    digest = hashlib.sha256(model.config.to_json().encode())
    digest.update(model.processor.tokenizer.definition.encode())
    for part in filter(None, (model.network, model.decode_model)):
        for name, tensor in named_tensors(part):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _remaining(
    rows: Rows, done: set[int], *, limit: int | None
) -> Iterator[tuple[AssembledRow, Line]]:
    """Yields the rows without an answer, assembled, each with its fields as JSON."""
    taken = 0
    for row in range(len(rows)):
        if limit is not None and taken >= limit:
            return
        if row in done:
            taken += 1
            continue
        record = rows.read(row)
        if not rows.selects(record):
            continue
        taken += 1
        assembled = assemble_row(rows, row, record)
        item = row_to_json(record.fields, without=rows.task.images)
        if rows.task.images_optional:
            item["has_image"] = bool(assembled.conversation.media)
        yield assembled, item


def _answer(
    model: Model, task: Task, batch: Sequence[tuple[AssembledRow, Line]], *, seed: int
) -> list[Line]:
    began = time.monotonic()
    replies = _generate(model, task, [row for row, _ in batch], seed=seed)
    seconds = round((time.monotonic() - began) / len(batch), 3)
    return [
        {
            "row": row.row,
            "prompt": row.prompt,
            "answer": reply.text,
            "finish_reason": reply.finish_reason,
            "tokens_in": reply.usage.prompt_tokens,
            "tokens_out": reply.usage.completion_tokens,
            "seconds": seconds,
            "item": item,
        }
        for (row, item), reply in zip(batch, replies, strict=True)
    ]


def _generate(model: Model, task: Task, batch: Sequence[AssembledRow], *, seed: int) -> list[Reply]:
    options: SamplingOptions = {"max_new_tokens": task.max_new_tokens}
    if task.temperature:
        options |= {"temperature": task.temperature, "seed": _row_seed(seed, batch[0].row)}
    try:
        return model.ask_all([row.conversation for row in batch], **options)
    except OneVisionError as error:
        if len(batch) == 1:
            raise DataError(f"{batch[0].where}: {error}") from error
        # Asking each row alone shows which one it is.
        return [reply for row in batch for reply in _generate(model, task, [row], seed=seed)]


def _row_seed(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:6], "big")
