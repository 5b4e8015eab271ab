"""A job's directory -> a self-contained page: what was kept, refused and why, samples, concepts."""

import base64
import hashlib
import heapq
import html
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from onevision import plots
from onevision.curate.balance.phrases import find_phrases
from onevision.curate.claim import SUMMARY
from onevision.curate.output import MIXTURE, PROVENANCE
from onevision.data.entries import read_datasets
from onevision.errors import DataError, MediaError
from onevision.files import Line, write_text
from onevision.inputs.media import open_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
REPORT = "report.html"
MAX_PICTURE_SIDE = 240
WIDTH, HEIGHT = 620, 300
NOTE = (
    "Noun phrases of all replies, and of the kept ones, by how often they occur. Balanced data "
    "have few phrases at the right end."
)


@dataclass(kw_only=True)
class _Found:
    """What one reading of provenance.jsonl finds."""

    before: Counter[str] = field(default_factory=Counter[str])
    after: Counter[str] = field(default_factory=Counter[str])
    samples: list[Line] = field(default_factory=list[Line])


def write_report(directory: Path, *, num_samples: int = 20) -> Path:
    """Writes report.html into a job's directory; returns it.

    Samples are the same each time. Without matplotlib the page has no plot. Raises DataError for a
    directory that no job has written, OSError.
    """
    try:
        summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
        job, num_items = summary["job"], summary["num_items"]
        found = _read(directory / PROVENANCE, num_samples)
    except OSError as error:
        raise _no_job(directory, f"{error.filename}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _no_job(directory, f"{SUMMARY} or {PROVENANCE} is damaged") from error
    page = PAGE.substitute(
        title=html.escape(f"{directory.resolve().name}: {job}"),
        style=plots.style_sheet(),
        summary=html.escape(_summarize(summary, num_items)),
        counts="\n".join(_rows(summary)),
        concepts=_plot_phrases(found),
        samples="\n".join(_sample(line, _root(directory)) for line in found.samples),
    )
    write_text(directory / REPORT, page)
    return directory / REPORT


def _no_job(directory: Path, found: str) -> DataError:
    return DataError(
        f"{directory}: no job has written here ({found}); give the output of `onevision curate "
        "instruct`, recaption, evolve, gate or balance"
    )


def bin_counts(counts: Mapping[str, int]) -> list[int]:
    """Returns how many phrases occur once, 2 to 3 times, 4 to 7, ..."""
    bins = Counter(count.bit_length() - 1 for count in counts.values())
    return [bins[power] for power in range(max(bins, default=-1) + 1)]


def _read(path: Path, num_samples: int) -> _Found:
    found = _Found()
    drawn: list[tuple[str, int]] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file):
            line = json.loads(raw)
            replies = line.get("replies") or []
            phrases = set(find_phrases((replies[-1]["text"] if replies else None) or ""))
            found.before.update(phrases)
            if line["outcome"] == "kept":
                found.after.update(phrases)
            drawn.append((hashlib.sha256(raw).hexdigest(), number))
            if len(drawn) > 2 * num_samples:
                drawn = heapq.nsmallest(num_samples, drawn)
    chosen = {number for _, number in heapq.nsmallest(num_samples, drawn)}
    with path.open("rb") as file:
        found.samples = [json.loads(raw) for n, raw in enumerate(file) if n in chosen]
    return found


def _summarize(summary: Mapping[str, object], num_items: int) -> str:
    kept, left, money = summary["num_kept"], summary["num_left"], summary["money"]
    cost = f", {money:.4g} spent" if isinstance(money, float) and money else ""
    return (
        f"{kept:,} of {num_items:,} tasks became records; {left:,} are left. "
        f"{summary['prompt_tokens']:,} tokens in, {summary['completion_tokens']:,} out{cost}; "
        f"{summary['num_asked_again']:,} were asked again."
    )


def _rows(summary: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for kind, count in sorted(summary["kept"].items()):
        yield f"<tr><th>{html.escape(kind)}: kept<td>{count:,}</tr>"
    for reason, count in sorted(summary["refused"].items(), key=lambda one: -one[1]):
        yield f"<tr><th>{html.escape(reason)}<td>{count:,}</tr>"


def _plot_phrases(found: _Found) -> str:
    note = f"<p>{NOTE} {len(found.before):,} phrases before, {len(found.after):,} after.</p>"
    return note + plot_concepts(bin_counts(found.before), bin_counts(found.after))


def plot_concepts(before: Sequence[int], after: Sequence[int]) -> str:
    """Returns a plot of how many phrases occur once, 2 to 3 times, ...; "" without matplotlib."""
    if not plots.is_installed() or not (before or after):
        return ""
    width = max(len(before), len(after))
    first, last = ([*bins, *[0] * (width - len(bins))] for bins in (before, after))

    def plot(figure: "Figure") -> None:
        plot_bins(figure, first, last)

    return plots.svg(plot, width=WIDTH, height=HEIGHT, label="Phrases by frequency")


def plot_bins(figure: "Figure", before: Sequence[int], after: Sequence[int]) -> None:
    """Plots numbers of phrases by frequency, before and after, as pairs of bars."""
    axes = figure.subplots()
    places = range(len(before))
    bars = [
        axes.bar([p - 0.2 for p in places], before, 0.4, color=plots.colour("s7"), label="before"),
        axes.bar([p + 0.2 for p in places], after, 0.4, color=plots.colour("s0"), label="after"),
    ]
    axes.set_xticks(list(places), [_bin_name(power) for power in places])
    axes.set_xlabel("captions that hold the phrase")
    axes.set_ylabel("phrases")
    axes.legend(handles=bars)


def _bin_name(power: int) -> str:
    return "1" if power == 0 else f"{2**power:,}\N{EN DASH}{2 ** (power + 1) - 1:,}"


def _root(directory: Path) -> Path | None:
    path = directory / MIXTURE
    if not path.is_file():
        return None
    root = read_datasets(path)[0].root
    return None if root is None else Path(root)


def _sample(line: Line, root: Path | None) -> str:
    picture = ""
    if line.get("image") and root is not None:
        picture = _picture(root / line["image"])
    said = "\n\n".join(
        html.escape(str(reply["text"] if reply["text"] is not None else reply["fault"]))
        for reply in line.get("replies") or []
    )
    kept = line["outcome"] == "kept"
    why = "kept" if kept else f'<span class="why">{html.escape(line["reason"])}</span>'
    where = html.escape(f"{line['where']} {line.get('detail') or ''}")
    return (
        f"<article><div>{picture}</div><div><b>{html.escape(line['kind'])}: {why}</b> "
        f"<small>{where}</small>\n{said}</div></article>"
    )


def _picture(path: Path) -> str:
    try:
        picture = open_image(path)
    except MediaError as error:
        return f"<small>{html.escape(str(error))}</small>"
    picture.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="">'
