"""What `balance` or `gate` kept -> a self-contained page: counts, and concepts before and after.

A gate's page has the records that were left out, drawn at random, and why.
"""

import hashlib
import html
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onevision import plots
from onevision.curate.balance.phrases import find_phrases
from onevision.curate.claim import RECORDS, SUMMARY
from onevision.curate.gates.apply import LEFT_OUT
from onevision.curate.report import PAGE, REPORT, bin_counts, plot_concepts
from onevision.errors import DataError
from onevision.files import Line, write_text

# Any: JSON values.
Values = Mapping[str, Any]


def is_balanced(path: Path) -> bool:
    """Whether `balance` wrote a file."""
    return path.is_file() and path.with_suffix(".summary.json").is_file()


def is_gated(path: Path) -> bool:
    """Whether `gate` wrote a directory."""
    return (path / LEFT_OUT).is_file()


def write_balance_report(path: Path) -> Path:
    """Writes the page of a file of balanced captions, beside it; returns it. Raises DataError."""
    summary = _read(path.with_suffix(".summary.json"))
    try:
        before, after = list(summary["phrases_before"]), list(summary["phrases_after"])
        kept, captions = int(summary["num_kept"]), int(summary["num_captions"])
        counts = {name: summary[name] for name in ("num_unreadable", "num_phrases")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: `onevision curate balance` has not written it ({error})"
        ) from error
    page = PAGE.substitute(
        title=html.escape(path.name),
        style=plots.style_sheet(),
        summary=f"{kept:,} of {captions:,} captions kept.",
        counts="\n".join(_rows({"captions that cannot be read": counts["num_unreadable"],
                                "different phrases or concepts": counts["num_phrases"]})),
        concepts=plot_concepts(before, after),
        samples="",
    )  # fmt: skip
    target = path.with_suffix(".html")
    write_text(target, page)
    return target


def write_gate_report(directory: Path, *, num_samples: int) -> Path:
    """Writes the page of a gate's directory into it; returns it. Raises DataError."""
    summary = _read(directory / SUMMARY)
    left_out = [json.loads(line) for line in (directory / LEFT_OUT).read_bytes().splitlines()]
    kept = json.loads((directory / RECORDS).read_text(encoding="utf-8"))
    after = _count(kept)
    page = PAGE.substitute(
        title=html.escape(f"{directory.resolve().name}: gates"),
        style=plots.style_sheet(),
        summary=f"{summary['num_kept']:,} of {summary['num_records']:,} records passed all gates.",
        counts="\n".join(_rows(summary["marked"])),
        concepts=f"<p>{len(after):,} noun phrases in what is kept.</p>"
        + plot_concepts([], bin_counts(after)),
        samples="\n".join(_sample(line) for line in _draw(left_out, num_samples)),
    )
    write_text(directory / REPORT, page)
    return directory / REPORT


def _read(path: Path) -> Values:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); run the command that writes it"
        ) from error


def _count(records: Iterable[Values]) -> Counter[str]:
    counts = Counter[str]()
    for record in records:
        turns = record.get("conversations") or []
        said = [str(turn.get("value", "")) for turn in turns if turn.get("from") == "gpt"]
        counts.update({phrase for text in said for phrase in find_phrases(text)})
    return counts


def _rows(counts: Mapping[str, int]) -> Iterator[str]:
    for name, count in sorted(counts.items(), key=lambda one: -one[1]):
        yield f"<tr><th>{html.escape(name)}<td>{count:,}</tr>"


def _draw(lines: Sequence[Line], count: int) -> list[Line]:
    """Returns some lines, the same each time."""
    key = {id(one): hashlib.sha256(json.dumps(one).encode()).digest() for one in lines}
    return sorted(lines, key=lambda one: key[id(one)])[:count]


def _sample(line: Line) -> str:
    where, gate, why = (html.escape(str(line[name])) for name in ("where", "gate", "why"))
    return f'<article><div>{where}</div><div><b class="why">{gate}</b> {why}</div></article>'
