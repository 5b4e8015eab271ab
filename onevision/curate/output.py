"""A job and its attempts -> records.json, provenance.jsonl, mixture.yaml and summary.json."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import yaml

from onevision.curate.claim import RECORDS, SUMMARY
from onevision.curate.journal import Journal
from onevision.curate.outcome import Missing, decide
from onevision.curate.task import Attempt, Job, Outcome, Refusal, SourceItem, Task
from onevision.files import Line, atomic_path, encode_line, write_json, write_text

PROVENANCE, MIXTURE = "provenance.jsonl", "mixture.yaml"
REPEATED = "repeated input"


@dataclass(kw_only=True)
class Summary:
    """What a job has made so far."""

    job: str
    num_items: int  # tasks and refusals in the input
    num_kept: int = 0
    num_left: int = 0  # not answered yet
    # Of the kept and of the refused, by kind, and by kind and reason.
    kept: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    # Of each kind and reason, what was wrong with the first; rules about replies say no more.
    first_details: dict[str, str] = field(default_factory=dict[str, str])
    num_asked_again: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0

    @property
    def num_refused(self) -> int:
        """Tasks and records of the input that became no record."""
        return sum(self.refused.values())

    def refuse(self, kind: str, reason: str, detail: str) -> None:
        """Counts what became no record."""
        self.refused[f"{kind}: {reason}"] += 1
        if detail and reason != REPEATED:
            self.first_details.setdefault(f"{kind}: {reason}", detail)

    def add_attempts(self, attempts: list[Attempt]) -> None:
        """Counts what the replies to a task took."""
        replies = [attempt for attempt in attempts if attempt.is_final]
        self.num_asked_again += len(replies) > 1
        self.prompt_tokens += sum(one.prompt_tokens or 0 for one in replies)
        self.completion_tokens += sum(one.completion_tokens or 0 for one in replies)
        self.money += sum(one.money for one in replies)


def write_outputs(
    job: Job, journal: Journal, output: Path, *, max_rows: int | None = None
) -> Summary:
    """Writes the files of a job, each whole or not at all; returns their summary.

    Of `max_rows` items at most; memory holds a hash of each task. Raises OSError.
    """
    summary = Summary(job=job.name, num_items=job.num_items)
    with (
        atomic_path(output / RECORDS) as records,
        atomic_path(output / PROVENANCE) as provenance,
        records.open("wb") as record_file,
        provenance.open("wb") as provenance_file,
    ):
        _Files(job, journal, summary, record_file, provenance_file).write(max_rows)
    if job.root is not None or summary.num_kept:
        write_text(output / MIXTURE, _mixture(job))
    write_json(output / SUMMARY, vars(summary))
    return summary


class _Files:
    """The two files that have a line for each task, while they are written."""

    def __init__(
        self,
        job: Job,
        journal: Journal,
        summary: Summary,
        records: BinaryIO,
        provenance: BinaryIO,
    ) -> None:
        self._job, self._journal, self._summary = job, journal, summary
        self._records, self._provenance = records, provenance
        self._seen = set[bytes]()

    def write(self, max_rows: int | None) -> None:
        num_items = 0
        self._records.write(b"[")
        for item in islice(self._job.items(), max_rows):
            num_items += 1
            if isinstance(item, Refusal):
                self._refuse(item.kind, item.source, item.reason, item.detail)
            elif (key := bytes.fromhex(item.id)) in self._seen:
                self._refuse(item.kind, item.source, REPEATED, item.id)
            else:
                self._seen.add(key)
                self._write_task(item)
        self._records.write(b"\n]\n")
        self._summary.num_left += self._job.num_items - num_items

    def _write_task(self, task: Task) -> None:
        attempts = self._journal.attempts(task.id)
        found = decide(self._job.read, task, attempts)
        if isinstance(found, Missing):
            self._summary.num_left += 1
            return
        self._summary.add_attempts(attempts)
        line = describe_task(task, attempts)
        if found.reason is not None:
            self._summary.refuse(task.kind, found.reason, found.detail)
            line |= {"outcome": "refused", "reason": found.reason, "detail": found.detail}
        else:
            record = to_record(task, found)
            self._records.write(b",\n" if self._summary.num_kept else b"\n")
            self._records.write(encode_line(record).rstrip(b"\n"))
            self._summary.num_kept += 1
            self._summary.kept[task.kind] += 1
            line |= {"outcome": "kept", "record": record["id"]}
        self._provenance.write(encode_line(line))

    def _refuse(self, kind: str, source: SourceItem, reason: str, detail: str) -> None:
        self._summary.refuse(kind, reason, detail)
        line = {"kind": kind, **asdict(source), "outcome": "refused"}
        self._provenance.write(encode_line(line | {"reason": reason, "detail": detail}))


def describe_task(task: Task, attempts: list[Attempt]) -> Line:
    """Returns the provenance of a task: what was asked of whom, and every reply."""
    replies = [
        {
            "text": one.text,
            "fault": one.fault,
            "finish_reason": one.finish_reason,
            "seed": task.seed_of(one.number),
            "prompt_tokens": one.prompt_tokens,
            "completion_tokens": one.completion_tokens,
            "money": one.money,
        }
        for one in sorted(attempts, key=lambda one: one.number)
        if one.is_final
    ]
    return {
        "task": task.id,
        "kind": task.kind,
        **asdict(task.source),
        "prompt_sha256": task.prompt_sha256,
        "writer": task.writer,
        "seed": task.seed,
        **asdict(task.sampling),
        "replies": replies,
    }


def to_record(task: Task, outcome: Outcome) -> Line:
    """Returns a LLaVA record of a task that was kept."""
    turns: list[dict[str, str]] = []
    mark = "<image>\n" if task.source.image is not None else ""
    for turn in outcome.turns:
        turns.append({"from": "human", "value": mark + turn.question})
        turns.append({"from": "gpt", "value": turn.answer})
        mark = ""
    image = {} if task.source.image is None else {"image": task.source.image}
    return {"id": f"{task.kind}-{task.id[:16]}", **image, "conversations": turns}


def _mixture(job: Job) -> str:
    entry = {"name": job.name, "json_path": RECORDS}
    if job.root is not None:
        entry["root"] = str(job.root.resolve())
    return yaml.safe_dump({"datasets": [entry]}, sort_keys=False, allow_unicode=True)
