"""A mixture and gates -> records that pass all, and a line for each that does not.

kept/
    records.json    the records as they were, in their order
    left_out.jsonl  where each of the others is, the gate that marked it, and why
    mixture.yaml    names records.json and the root of its media
    summary.json    counts by gate
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import yaml

from onevision.curate.claim import LEFT_OUT, RECORDS, SUMMARY, claim
from onevision.curate.gates.gate import Gate, GateItem
from onevision.curate.output import MIXTURE
from onevision.data.forms.raw import RawRecord
from onevision.data.mixture import Mixture
from onevision.data.records import to_conversation
from onevision.errors import DataError
from onevision.files import atomic_path, encode_line, write_json, write_text
from onevision.locks import lock_directory

UNREADABLE = "unreadable"
BATCH = 8


@dataclass(kw_only=True)
class GateSummary:
    """How many records there were, and how many each gate marked; a record counts once."""

    num_records: int = 0
    num_kept: int = 0
    marked: Counter[str] = field(default_factory=Counter[str])
    first_problem: str = ""  # of the first record that cannot be read


def apply_gates(
    mixture: Mixture,
    gates: Sequence[Gate],
    output: Path,
    *,
    on_progress: Callable[[int], object] = int,
) -> GateSummary:
    """Passes each record through the gates in their order, up to the first that marks it.

    Raises DataError if the data sets have several media roots or media inside records, ConfigError
    if another process or another command has written to `output`, OSError.
    """
    roots = {dataset.source.root for dataset in mixture.datasets}
    if len(roots) > 1:
        raise DataError(
            f"{mixture.name}: its data sets have {len(roots)} media roots; gate them one by one, "
            "so that the kept records have one"
        )
    (root,) = roots
    entry = {"name": mixture.name, "json_path": RECORDS}
    if root is not None:
        entry["root"] = str(root.resolve())
    with lock_directory(output, holder="job"):
        claim(output, job="gate")
        summary = _write(mixture, gates, output, on_progress)
        write_text(output / MIXTURE, yaml.safe_dump({"datasets": [entry]}, sort_keys=False))
        write_json(output / SUMMARY, vars(summary))
    return summary


def _write(
    mixture: Mixture, gates: Sequence[Gate], output: Path, on_progress: Callable[[int], object]
) -> GateSummary:
    """Writes the records that are kept, and a line for each that is not."""
    summary = GateSummary()
    with (
        atomic_path(output / RECORDS) as records,
        atomic_path(output / LEFT_OUT) as left_out,
        records.open("wb") as kept_file,
        left_out.open("wb") as left_out_file,
    ):
        kept_file.write(b"[")
        for judged in _judge(mixture, gates):
            summary.num_records += 1
            if judged.gate is None:
                kept_file.write(b",\n" if summary.num_kept else b"\n")
                kept_file.write(_encode(judged.record))
                summary.num_kept += 1
            else:
                summary.marked[judged.gate] += 1
                if judged.gate == UNREADABLE:
                    summary.first_problem = summary.first_problem or judged.why
                line = {"where": judged.where, "gate": judged.gate, "why": judged.why}
                left_out_file.write(encode_line(line))
            on_progress(summary.num_records)
        kept_file.write(b"\n]\n")
    return summary


@dataclass(frozen=True)
class _Judged:
    """A record, and the gate that marked it, if one did."""

    where: str
    record: RawRecord | None
    gate: str | None = None
    why: str = ""


def _judge(mixture: Mixture, gates: Sequence[Gate]) -> Iterator[_Judged]:
    places = ((d.source, row) for d in mixture.datasets for row in d.rows.tolist())
    while batch := list(islice(places, BATCH)):
        found: dict[int, _Judged] = {}
        items: dict[int, GateItem] = {}
        for number, (source, row) in enumerate(batch):
            try:
                record = source.read(row)
                items[number] = GateItem(record, to_conversation(record))
            except DataError as error:
                where = f"{source.name}, row {row}"
                found[number] = _Judged(where, None, UNREADABLE, str(error))
        for gate in gates:
            marks = gate.check(list(items.values()))
            for number, why in zip(list(items), marks, strict=True):
                if why is not None:
                    record = items.pop(number).record
                    found[number] = _Judged(record.where, record, gate.name, why)
        for number, item in items.items():
            found[number] = _Judged(item.record.where, item.record)
        yield from (found[number] for number in range(len(batch)))


def _encode(record: RawRecord | None) -> bytes:
    assert record is not None, "a kept record was read"
    try:
        return encode_line(record.fields).rstrip(b"\n")
    except TypeError as error:
        raise DataError(
            f"{record.where}: it holds media as bytes, which JSON cannot; write them to files"
        ) from error
