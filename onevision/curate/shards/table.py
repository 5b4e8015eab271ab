"""A job and its attempts -> a Parquet file: picture, conversation and provenance of each record.

    id              of the record
    image           {"bytes": ..., "path": ...}
    conversations   [{"from": ..., "value": ...}, ...]
    provenance      the line of provenance.jsonl, as JSON

`onevision data check FILE` reads it as it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from onevision.conversation import Image
from onevision.curate.journal import Journal
from onevision.curate.outcome import Missing, decide
from onevision.curate.output import describe_task, to_record
from onevision.curate.task import Job, Task
from onevision.extras import imports_of_extra
from onevision.files import Line, atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

# Records of a row group: some hundred megabytes of pictures at most.
GROUP = 256


def write_table(job: Job, journal: Journal, path: Path) -> int:
    """Writes what a job kept, whole or not at all; returns the number of records.

    Raises OSError, and InputError without the extra `data`.
    """
    with imports_of_extra("data", "recaption --ray writes Parquet: pip install 'onevision[ray]'"):
        import pyarrow.parquet as pq
    num_records = 0
    with atomic_path(path) as partial, pq.ParquetWriter(partial, _schema()) as writer:
        group: list[Line] = []
        for row in _rows(job, journal):
            group.append(row)
            num_records += 1
            if len(group) == GROUP:
                writer.write_table(_to_table(group))
                group.clear()
        if group or not num_records:
            writer.write_table(_to_table(group))
    return num_records


def _rows(job: Job, journal: Journal) -> Iterator[Line]:
    seen = set[str]()
    for item in job.items():
        if not isinstance(item, Task) or item.id in seen:
            continue
        seen.add(item.id)
        attempts = journal.attempts(item.id)
        found = decide(job.read, item, attempts)
        if isinstance(found, Missing) or found.reason is not None:
            continue
        record = to_record(item, found)
        image = {"bytes": _read_picture(item), "path": item.source.image}
        line = json.dumps(describe_task(item, attempts), ensure_ascii=False)
        yield {**record, "image": image, "provenance": line}


def _read_picture(task: Task) -> bytes:
    """Returns the bytes of the only picture that a task shows."""
    (picture,) = (part for part in task.conversation.media if isinstance(part, Image))
    source = picture.source
    assert isinstance(source, str | bytes), "PictureReader gives a path or bytes"
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _schema() -> "pa.Schema":
    import pyarrow as pa

    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    return pa.schema([
        ("id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("conversations", pa.list_(turn)),
        ("provenance", pa.string()),
    ])  # fmt: skip


def _to_table(rows: list[Line]) -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())
