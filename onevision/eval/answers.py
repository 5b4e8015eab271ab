"""The files of one task's answers: what was asked of which model, and every answer as it arrives.

    run.json        {"format_version": 1, "task": {...}, "model": {...}, ...}    written first
    answers.jsonl   {"row": 3, "prompt": "...", "answer": "B", "item": {...}}    a line per answer
    scores.jsonl    {"row": 3, "score": 1.0, ...}                                a line per answer
    results.json    the metrics (results.py)

An answer is on disk before the next batch starts. A line that a crash left unfinished is cut off
when the run continues. `item` is the row without its media, so that scoring needs nothing but this
directory.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onevision.errors import DataError
from onevision.files import Line, append_lines, cut_torn_line, read_lines, write_json, write_lines
from onevision.values import flatten

FORMAT_VERSION = 1
RUN, ANSWERS, SCORES, RESULTS = "run.json", "answers.jsonl", "scores.jsonl", "results.json"
# Fields of run.json that no answer depends on.
IRRELEVANT = (
    *("model.name", "data.place", "data.files"),
    *("task.title", "task.groups", "task.averaged", "task.files"),
    *("task.scorer", "task.metric", "task.judge", "task.unit", "task.submission"),
)


@dataclass(frozen=True)
class AnswerFiles:
    """The files of one task's answers."""

    directory: Path

    def begin(self, settings: Line) -> None:
        """Writes what is asked of which model, or continues a run that asked the same.

        Raises DataError, which says what has changed.
        """
        path = self.directory / RUN
        if path.exists():
            changes = find_changes(self.settings(), settings)
            if changes:
                raise DataError(
                    f"{self.directory}: its answers are from another run ({'; '.join(changes)}); "
                    "give another --output, or the earlier settings"
                )
        elif (self.directory / ANSWERS).exists():
            raise DataError(f"{self.directory}: answers without {RUN}; give another --output")
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / ANSWERS).touch()
        cut_torn_line(self.directory / ANSWERS)
        with explain_failed_write(path):
            write_json(path, {"format_version": FORMAT_VERSION} | settings)

    def settings(self) -> Line:
        """Returns what was asked of which model. Raises DataError."""
        values = read_json(self.directory / RUN)
        if values.pop("format_version", None) != FORMAT_VERSION:
            raise DataError(f"{self.directory / RUN}: not of format_version {FORMAT_VERSION}")
        return values

    def add(self, lines: Sequence[Line]) -> None:
        """Appends answers; they are on disk when this returns. Raises DataError."""
        try:
            append_lines(self.directory / ANSWERS, lines)
        except OSError as error:
            raise DataError(
                f"{self.directory / ANSWERS}: cannot be written ({error.strerror}); free some "
                "space and start again, the answers so far are kept"
            ) from error

    def answers(self) -> list[Line]:
        """Returns the latest answer of each row, in their order.

        Raises DataError for a damaged line.
        """
        lines = read_lines(self.directory / ANSWERS, key="row")
        latest = {line["row"]: line for line in lines}
        return [latest[row] for row in sorted(latest)]

    def scores(self) -> dict[int, Line]:
        """Returns the score of each row. Raises DataError."""
        return {line["row"]: line for line in read_lines(self.directory / SCORES, key="row")}

    def write_scores(self, scores: Mapping[int, Mapping[str, object]]) -> None:
        """Writes the score of each row, whole or not at all."""
        path = self.directory / SCORES
        with explain_failed_write(path):
            write_lines(path, ({"row": row, **score} for row, score in scores.items()))

    def write_results(self, results: Line) -> None:
        """Writes results.json, whole or not at all."""
        path = self.directory / RESULTS
        with explain_failed_write(path):
            write_json(path, results)


def find_changes(old: Line, new: Line) -> list[str]:
    """Returns what differs among the settings that matter: "task.prompt: 'a' -> 'b'"."""
    before, after = dict(flatten(old)), dict(flatten(json.loads(json.dumps(new))))
    keys = dict.fromkeys([*before, *after])
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in keys
        if before.get(key) != after.get(key) and not key.startswith(IRRELEVANT)
    ]


@contextmanager
def explain_failed_write(path: Path) -> Iterator[None]:
    """Turns an OSError while writing `path` into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); free some space") from error


def read_json(path: Path) -> Line:
    """Returns a JSON object. Raises DataError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run the task first") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove the folder and run again") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: it is {type(values).__name__}; expected an object")
    return values
