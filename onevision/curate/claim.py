"""A directory and what wants to write there -> refused if it holds what another command made."""

import json
from pathlib import Path

from onevision.errors import ConfigError

RECORDS, SUMMARY, ATTEMPTS = "records.json", "summary.json", "attempts.jsonl"
LEFT_OUT, PAGES = "left_out.jsonl", "documents.json"


def claim(output: Path, *, job: str) -> None:
    """Raises ConfigError if `output` holds records of anything but `job`.

    `job` is "gate", "documents", or a job's own name, as in its summary.
    """
    owner = _find_owner(output)
    if owner is not None and owner != job:
        raise ConfigError(
            f"{output}: it holds the records of {owner}, which those of {job} would replace; give "
            "another --output"
        )


def _find_owner(output: Path) -> str | None:
    """Returns what made the records of a directory; None if it has none, or a job just began."""
    if (output / LEFT_OUT).is_file():
        return "gate"
    if (output / PAGES).is_file():
        return "documents"
    if (output / SUMMARY).is_file():
        return _read_job(output / SUMMARY)
    return "another command" if (output / RECORDS).is_file() else None


def _read_job(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["job"])
    except (ValueError, KeyError, TypeError):
        return "another command"
