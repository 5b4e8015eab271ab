r"""Held-out samples -> a benchmark of their last questions, which `onevision eval` runs.

    held-out/held_out.yaml          the task: a question with images, or text alone
    held-out/held_out.jsonl         {"turns": [{"value": "<image>\nWhat?"}], "images": [...], ...}
    held-out/held_out_video.yaml    and .jsonl, if there are videos
    held-out/media/                 copies of what they show

Short answers are scored by exact match, longer ones by ROUGE-L.
"""

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml
from PIL import Image as PIL

from onevision.checkpoint.files import new_directory
from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.plan import Plan
from onevision.data.samples import SampleReader
from onevision.files import Line, write_lines, write_text

IMAGES, VIDEO = "held_out", "held_out_video"
MEDIA = "media"
MARK = "<image>"
# At most so many are asked, before and after.
MAX_QUESTIONS = 64
# Answers with a median of so many words or fewer are right or wrong.
SHORT_WORDS = 5
MAX_NEW_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The task files, and how many samples cannot be asked by them."""

    tasks: tuple[Path, ...]
    num_questions: int
    num_left: int


def find_questions(directory: Path) -> Questions | None:
    """Returns the questions written before; None if there are none."""
    tasks = tuple(sorted(directory.glob("*.yaml")))
    if not tasks:
        return None
    rows = [path.with_suffix(".jsonl").read_text(encoding="utf-8") for path in tasks]
    return Questions(tasks=tasks, num_questions=sum(r.count("\n") for r in rows), num_left=0)


def write_questions(reader: SampleReader, plan: Plan, directory: Path) -> Questions:
    """Writes the first held-out samples as questions, whole or not at all. Raises OSError."""
    samples = [
        (number, int(row))
        for number, one in enumerate(plan.datasets)
        for row in one.rows[one.usable]
    ]
    rows: dict[str, list[Line]] = {IMAGES: [], VIDEO: []}
    num_left = 0
    with new_directory(directory, replace=True) as partial:
        (partial / MEDIA).mkdir()
        for dataset, row in samples[:MAX_QUESTIONS]:
            fitted = reader.fit(dataset, row).conversation
            kind, line = _question(fitted, partial / MEDIA, name=f"{dataset}-{row}")
            num_left += line is None
            if line is not None:
                rows[kind].append({"id": reader.locate(dataset, row)} | line)
        written = {name: lines for name, lines in rows.items() if lines}
        for name, lines in written.items():
            write_lines(partial / f"{name}.jsonl", lines)
            write_text(partial / f"{name}.yaml", _task(name, lines, num_frames=reader.num_frames))
    return Questions(
        tasks=tuple(directory / f"{name}.yaml" for name in written),
        num_questions=sum(map(len, written.values())),
        num_left=num_left,
    )


def _question(talk: Conversation, media: Path, *, name: str) -> tuple[str, Line | None]:
    """Returns the task and the line of a sample's last question; None if no task can ask it."""
    messages = list(talk.messages)
    while messages and messages[-1].role != "assistant":
        messages.pop()
    if len(messages) < 2 or MARK in _words(messages):
        return IMAGES, None
    *asked, answer = (one for one in messages if one.role != "system")
    shown = [part for one in asked for part in one.parts if not isinstance(part, Text)]
    videos = [part for part in shown if isinstance(part, Video)]
    if videos and len(shown) > 1:
        return VIDEO, None
    turns = [{"value": "".join(_mark(part) for part in one.parts)} for one in asked]
    line: Line = {"turns": turns, "answer": _words([answer]).strip()}
    if videos:
        return VIDEO, line | {"video": f"{MEDIA}/{_copy(videos[0].source, media / name)}"}
    images = [one for one in shown if isinstance(one, Image)]
    names = [_copy(one.source, media / f"{name}-{n}") for n, one in enumerate(images)]
    return IMAGES, line | {"images": [f"{MEDIA}/{one}" for one in names]}


def _mark(part: Text | Image | Video) -> str:
    return part.text if isinstance(part, Text) else MARK


def _words(messages: Sequence[Message]) -> str:
    return "".join(p.text for one in messages for p in one.parts if isinstance(p, Text))


def _copy(source: object, target: Path) -> str:
    """Copies what is shown; returns the name of the copy."""
    if isinstance(source, str | Path):
        path = Path(source)
        place = target.with_name(target.name + path.suffix.lower())
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, place)
    elif isinstance(source, bytes):
        with PIL.open(io.BytesIO(source)) as opened:
            kind = (opened.format or "png").lower()
        place = target.with_name(f"{target.name}.{kind}")
        place.write_bytes(source)
    else:
        place = target.with_name(f"{target.name}.png")
        assert isinstance(source, PIL.Image), "a frame list is a directory of files"
        source.save(place)
    return place.name


def _task(name: str, lines: Sequence[Line], *, num_frames: int) -> str:
    lengths = [len(str(line["answer"]).split()) for line in lines]
    longest = max(len(str(line["answer"])) for line in lines)
    values: Mapping[str, object] = {
        "title": "held-out samples" + (" with video" if name == VIDEO else ""),
        "groups": [],
        "dataset": f"local/{name}",
        "split": "test",
        **(
            {"video": ["{video}"], "num_frames": num_frames}
            if name == VIDEO
            else {"images": ["images"], "images_optional": True}
        ),
        "turns": "turns",
        "prompt": "",
        # A token has at least a character, but few have only one.
        "max_new_tokens": min(MAX_NEW_TOKENS, max(16, longest // 2)),
        "scorer": "exact_match" if median(lengths) <= SHORT_WORDS else "rouge_l",
    }
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
