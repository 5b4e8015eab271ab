"""Held-out samples before and after -> a section of report.html: figures, and answers to look at.

Pictures are in the page itself, small, so that it can be sent as one file.
"""

import base64
import html
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image as PIL

from onevision.conversation import Video
from onevision.errors import OneVisionError
from onevision.eval.answers import AnswerFiles
from onevision.files import Line
from onevision.inputs.media import open_image
from onevision.inputs.video import choose_frames
from onevision.plural import counted
from onevision.train.finetune.request import FinetuneDirectory

BEFORE, AFTER = "before", "after"
MAX_ANSWERS, MAX_PICTURES = 12, 4
# Of a thumbnail: pixels of the longer side, bytes, and the qualities that are tried.
SIDE, MAX_BYTES, QUALITIES = 224, 20_000, (85, 60, 35, 10)
MAX_CHARACTERS = 600  # of a text
OPTIMISM = (
    "The weights with the lowest loss on these samples were kept, so the figures after training "
    "are slightly optimistic. Measure on samples that took no part: <code>onevision eval</code>."
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One measure on the held-out samples, before and after."""

    name: str
    before: float
    after: float
    # The 95 % interval of the measure after training; None if it is not known.
    low: float | None = None
    high: float | None = None
    num_samples: int
    is_share: bool = True

    def describe(self) -> str:
        """Returns "exact match  12.5 % -> 87.5 %  (95 %: 68.8 % to 100.0 %; 16 questions)"."""
        interval = f"95 %: {self.interval}; " if self.interval else ""
        before, after = self.words(self.before), self.words(self.after)
        return f"{self.name}  {before} -> {after}  ({interval}{self.measured_on})"

    @property
    def measured_on(self) -> str:
        """What it was measured on: "16 questions"."""
        return counted(self.num_samples, "question" if self.is_share else "sample")

    @property
    def interval(self) -> str:
        """The 95 % interval in words; "" if it is not known."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.words(self.low)} to {self.words(self.high)}"

    def words(self, value: float) -> str:
        """Returns a value as "12.5 %" or "0.8312"."""
        return f"{100 * value:.1f} %" if self.is_share else f"{value:.4g}"


def held_out_section(
    directory: FinetuneDirectory, changes: tuple[Change, ...], *, is_chosen: bool
) -> str:
    """Returns the section as HTML; "" if nothing was held out. Raises DataError, OSError.

    `is_chosen` says that the held-out loss decided which step's weights were written.
    """
    if not changes:
        return ""
    rows = "".join(
        f"<tr><th>{html.escape(one.name)}<td>{one.words(one.before)}<td>{one.words(one.after)}"
        f"<td>{one.interval or '-'}<td>{one.measured_on}"
        for one in changes
    )
    head = "<tr><th><th>before<th>after<th>95 % interval<th>measured on"
    cards = "".join(islice(_answers(directory), MAX_ANSWERS))
    answers = (
        f'<h2>Answers before and after</h2><div class="answers">{cards}</div>' if cards else ""
    )
    return (
        f"<h2>Held-out samples</h2>{f'<p>{OPTIMISM}</p>' if is_chosen else ''}"
        f'<div class="tables"><table>{head}{rows}</table></div>{answers}'
    )


def _answers(directory: FinetuneDirectory) -> Iterator[str]:
    """Yields the questions that were answered before and after, task by task."""
    for file in sorted(directory.questions.glob("*.jsonl")):
        first, second = (AnswerFiles(directory.answers / w / file.stem) for w in (BEFORE, AFTER))
        if not (second.directory / "answers.jsonl").is_file():
            continue
        before = {line["row"]: line for line in first.answers()}
        scores = first.scores(), second.scores()
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for after in second.answers():
            row = after["row"]
            if row in before:
                said = ((before[row], scores[0].get(row)), (after, scores[1].get(row)))
                yield _card(rows[row], directory.questions, said)


def _card(row: Line, place: Path, said: tuple[tuple[Line, Line | None], ...]) -> str:
    pictures = "".join(islice(_pictures(row, place), MAX_PICTURES))
    asked = " ".join(str(turn["value"]) for turn in row["turns"]).replace("<image>", " ")
    lines = [("expected", str(row["answer"]))]
    for when, (line, score) in zip((BEFORE, AFTER), said, strict=True):
        share = "" if score is None else f" ({100 * score['score']:.0f} %)"
        lines.append((when, f"{line['answer'] or 'nothing'}"[:MAX_CHARACTERS] + share))
    table = "".join(f"<dt>{name}<dd>{html.escape(text)}" for name, text in lines)
    question = html.escape(" ".join(asked.split())[:MAX_CHARACTERS])
    return f"<figure>{pictures}<figcaption>{question}<dl>{table}</dl></figcaption></figure>"


def _pictures(row: Line, place: Path) -> Iterator[str]:
    """Yields what a question shows, of a video the first frame, as HTML."""
    name = row.get("video")
    for one in [name] if name is not None else row.get("images", ()):
        try:
            if name is None:
                picture = open_image(str(place / one))
            else:
                picture = next(choose_frames(Video(source=str(place / one), num_frames=1)).frames())
        except OneVisionError as error:
            yield f"<p>{html.escape(str(error))}</p>"
            continue
        data = base64.b64encode(_shrink(picture)).decode()
        yield f'<img alt="{html.escape(str(one))}" src="data:image/jpeg;base64,{data}">'


def _shrink(picture: PIL.Image) -> bytes:
    """Returns a JPEG of at most MAX_BYTES."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    data = b""
    for quality in QUALITIES:
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality)
        data = file.getvalue()
        if len(data) <= MAX_BYTES:
            break
    return data
