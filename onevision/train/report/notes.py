"""Notes on some steps -> lines of a file; a run that rewinds drops the notes on later steps.

    skipped.jsonl   {"step": 7, "problem": "the loss is nan", "samples": ["coco.json, row 3"]}
    eval.jsonl      {"step": 200, "questions": 60, "accuracy": {...}, "seconds": 31.2}
    validation.jsonl  {"step": 40, "loss": 0.83, "samples": 52, "seconds": 1.4}

Notes never stop a run: failing to write one is a warning.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from onevision.errors import InputError
from onevision.files import Line, append_lines, write_lines
from onevision.train.report.metrics import read_metrics

SKIPPED, EVALUATIONS, VALIDATION = "skipped.jsonl", "eval.jsonl", "validation.jsonl"


class Notes:
    """The lines of one file."""

    def __init__(self, path: Path, *, warn: Callable[[str], object]) -> None:
        self.path, self.warn = path, warn

    def add(self, line: Mapping[str, object]) -> None:
        """Adds a line, which has a `step`."""
        try:
            append_lines(self.path, [line], sync=False)
        except OSError as error:
            self.warn(f"{self.path}: cannot be written ({error.strerror})")

    def rewind(self, step: int) -> None:
        """Drops the lines after `step`."""
        try:
            kept = [line for line in read_notes(self.path) if line["step"] <= step]
            if self.path.is_file():
                write_lines(self.path, kept)
        except (InputError, OSError) as error:
            self.warn(f"{self.path}: cannot be cut back to step {step} ({error}); move it away")


def read_notes(path: Path) -> list[Line]:
    """Returns the lines of a file, or none if it does not exist. Raises InputError."""
    return read_metrics(path) if path.is_file() else []
