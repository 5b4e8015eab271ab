r"""ScienceQA's own files -> training records in the QCM-LEA form.

A question, its context and its options go in; a lecture, an explanation and the answer come out:

    Question: Which is a metal?            Metals conduct heat. Iron does. The answer is A.
    Context: Think of magnets.
    Options:
    (A) iron
    (B) wood

The prompt is that of the task scienceqa_lea, so that a model is evaluated as it was trained. Lu et
al., "Learn to Explain" (ScienceQA), 2022.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onevision.data.forms.raw import RawRecord
from onevision.data.sources import RecordSource, SequenceSource, open_source
from onevision.errors import DataError, MediaError
from onevision.eval.prompts import format_prompt
from onevision.eval.rows import read_images
from onevision.eval.scoring.choices import LETTERS
from onevision.eval.scoring.fields import index, text, texts
from onevision.eval.task import bundled_tasks
from onevision.files import Line, write_json
from onevision.inputs.media import open_image
from onevision.plural import counted

# What is learned: lecture, explanation and answer, or the answer alone.
Form = Literal["QCM-LEA", "QCM-A"]
TASK = "scienceqa_lea"
PROBLEMS, SPLITS, IMAGES = "problems.json", "pid_splits.json", "images"


@dataclass(frozen=True, kw_only=True)
class ConvertedSet:
    """What was written."""

    path: Path
    num_records: int
    num_images: int


def convert_science_qa(source: Path, output: Path, *, split: str, form: Form) -> ConvertedSet:
    """Writes OUTPUT/scienceqa_SPLIT.json and the pictures beside it.

    `source` is the folder of the original release (problems.json, pid_splits.json, images), or a
    Parquet or JSON file with the same fields, as on the hub. Raises DataError.
    """
    rows = _open_original(source, split) if (source / PROBLEMS).is_file() else open_source(source)
    records: list[Line] = []
    num_images = 0
    for number in range(len(rows)):
        record = rows.read(number)
        name = str(record.fields.get("id", number))
        image = f"{IMAGES}/{split}/{name}.png"
        try:
            has_image = _copy_image(record, output / image)
            records.append(_build_record(record, name, image if has_image else None, form=form))
        except (DataError, MediaError) as error:
            raise DataError(f"{record.where}: {error}") from error
        num_images += has_image
    path = output / f"scienceqa_{split}.json"
    write_json(path, records)
    return ConvertedSet(path=path, num_records=len(records), num_images=num_images)


def _open_original(source: Path, split: str) -> RecordSource:
    problems, splits = _read_json(source / PROBLEMS), _read_json(source / SPLITS)
    if split not in splits:
        raise DataError(f"{source / SPLITS}: no split {split!r}; expected {', '.join(splits)}")
    missing = [key for key in splits[split] if key not in problems]
    if missing:
        raise DataError(
            f"{source / PROBLEMS}: without {counted(len(missing), 'problem')} of {split}, "
            f"such as {missing[0]}; fetch the file again"
        )
    rows = [_locate(key, problems[key], split) for key in splits[split]]
    return SequenceSource(str(source / PROBLEMS), rows, root=source)


def _locate(key: str, problem: Mapping[str, object], split: str) -> Line:
    """Returns a problem with its id, and the path of its picture inside the release."""
    image = problem.get("image")
    return {**problem, "id": key, "image": f"{IMAGES}/{split}/{key}/{image}" if image else None}


def _read_json(path: Path) -> Line:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error!s:.80})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: it is {type(values).__name__}; expected an object")
    return values


def _build_record(record: RawRecord, name: str, image: str | None, *, form: Form) -> Line:
    fields = record.fields
    options = texts(fields, "choices")
    letter = LETTERS[index(fields, "answer", below=len(options))]
    prompt = format_prompt(bundled_tasks()[TASK], fields, where=record.where)
    why = [text(fields, key).strip() for key in ("lecture", "solution") if fields.get(key)]
    answer = [*(why if form == "QCM-LEA" else ()), f"The answer is {letter}."]
    return {
        "id": name,
        **({"image": image} if image else {}),
        "conversations": [
            {"from": "human", "value": f"<image>\n{prompt}" if image else prompt},
            {"from": "gpt", "value": " ".join(filter(None, answer))},
        ],
    }


def _copy_image(record: RawRecord, path: Path) -> bool:
    """Writes a problem's picture as PNG; returns whether it has one."""
    image = next(read_images(record, "image"), None)
    if image is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    open_image(image).save(path, "PNG")
    return True
