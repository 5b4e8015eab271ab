"""A directory with the answers of one task: what was asked of whom, and every answer as it comes.

    run.json        {"format_version": 1, "task": {...}, "model": {...}, ...}    before the first
    answers.jsonl   {"row": 3, "prompt": "...", "answer": "B", "item": {...}}    a line an answer
    scores.jsonl    {"row": 3, "score": 1.0, ...}                                a line an answer
    results.json    the figures

An answer is on the disk before the next batch is asked. A line that a crash left unfinished is cut
off when the run goes on. `item` is the row without its media, so that scoring needs this directory
alone.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onevision.errors import DataError
from onevision.values import flatten

FORMAT_VERSION = 1
RUN, ANSWERS, SCORES, RESULTS = "run.json", "answers.jsonl", "scores.jsonl", "results.json"
# Of run.json, what does not decide an answer: where things lie, how fast they go.
INDIFFERENT = (
    *("model.name", "data.place", "data.files"),
    *("task.title", "task.groups", "task.averaged", "task.files"),
    *("task.scorer", "task.metric", "task.judge", "task.unit", "task.submission"),
)

# Any: JSON values.
Line = dict[str, Any]


@dataclass(frozen=True)
class AnswerFiles:
    """The files of one task's answers."""

    directory: Path

    def begin(self, settings: Line) -> None:
        """Write what is asked of whom, or go on if the same was asked before.

        Raises DataError that says what has changed.
        """
        path = self.directory / RUN
        if path.exists():
            changes = difference(self.settings(), settings)
            if changes:
                raise DataError(
                    f"{self.directory}: its answers are of another run ({'; '.join(changes)}); "
                    "give another --output, or the settings of before"
                )
        elif (self.directory / ANSWERS).exists():
            raise DataError(f"{self.directory}: answers without {RUN}; give another --output")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._mend()
        write_json(path, {"format_version": FORMAT_VERSION} | settings)

    def settings(self) -> Line:
        """Return what was asked of whom. Raises DataError."""
        values = _read_json(self.directory / RUN)
        if values.pop("format_version", None) != FORMAT_VERSION:
            raise DataError(f"{self.directory / RUN}: not of format_version {FORMAT_VERSION}")
        return values

    def add(self, lines: Sequence[Line]) -> None:
        """Add answers; they are on the disk when this returns. Raises DataError."""
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            with (self.directory / ANSWERS).open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.directory / ANSWERS}: cannot be written ({error.strerror}); make room and "
                "start again, the answers so far are kept"
            ) from error

    def answers(self) -> list[Line]:
        """Return the answers in the order of their rows. Raises DataError for a damaged line."""
        return sorted(read_lines(self.directory / ANSWERS), key=lambda line: line["row"])

    def scores(self) -> dict[int, Line]:
        """Return the score of each row. Raises DataError."""
        return {line["row"]: line for line in read_lines(self.directory / SCORES)}

    def write_scores(self, scores: Mapping[int, Mapping[str, object]]) -> None:
        """Write the score of each row, whole or not at all."""
        lines = (json.dumps({"row": r, **s}, ensure_ascii=False) + "\n" for r, s in scores.items())
        _replace(self.directory / SCORES, "".join(lines))

    def results(self) -> Line:
        """Return the figures. Raises DataError where there are none yet."""
        return _read_json(self.directory / RESULTS)

    def write_results(self, results: Line) -> None:
        """Write the figures, whole or not at all."""
        write_json(self.directory / RESULTS, results)

    def _mend(self) -> None:
        """Make the file of the answers, or cut off the line that a crash left unfinished."""
        path = self.directory / ANSWERS
        path.touch()
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a JSONL file with a `row` each, but for a last one that is torn.

    Raises DataError where there is no such file, or another line is damaged.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the folder") from error
    return list(_whole_lines(raw[: raw.rfind(b"\n") + 1], path))


def _whole_lines(raw: bytes, path: Path) -> Iterator[Line]:
    for number, text in enumerate(raw.splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("row"), int):
            raise DataError(f"{path}: line {number} is not a JSON object with a row; remove it")
        yield line


def difference(old: Line, new: Line) -> list[str]:
    """Say what differs of what decides the answers: "task.prompt: 'a' -> 'b'"."""
    before, after = dict(flatten(old)), dict(flatten(json.loads(json.dumps(new))))
    keys = dict.fromkeys([*before, *after])
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in keys
        if before.get(key) != after.get(key) and not key.startswith(INDIFFERENT)
    ]


def write_json(path: Path, values: Line | list[Line]) -> None:
    """Write a JSON file, whole or not at all."""
    _replace(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _read_json(path: Path) -> Line:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run the task first") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove the folder and run again") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: it is {type(values).__name__}; expected an object")
    return values


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); make room") from error
