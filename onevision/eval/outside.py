"""A model + a folder of pictures and videos -> how often it cannot tell, and how often nonsense.

For media outside a model's world the right answer is that it cannot tell, or the name of what it
shows, if names.json in the folder gives some: {"apple.jpg": ["apple", "fruit"]}. Everything else is
confident nonsense, as is an answer without words.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.containers import PICTURES
from onevision.data.records import VIDEO_SUFFIXES
from onevision.errors import DataError, InputError
from onevision.eval.scoring.text import normalise
from onevision.eval.statistics import Interval, mean_interval
from onevision.generate.answer import Model
from onevision.synth.sample import CANNOT_TELL

Verdict = Literal["cannot tell", "named", "nonsense", "no words"]
NAMES = "names.json"
PICTURE_QUESTIONS = ("What is this?", "Describe the image.")
VIDEO_QUESTIONS = ("What is in the video?", "What happens in the video?")
FRAMES = (8, 16, 32)
BATCH_SIZE = 4
MAX_ANSWER_TOKENS = 128
# A refusal is one sentence or two; a longer answer is none.
MAX_REFUSAL_WORDS = 20
WORDS = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class OutsideAnswer:
    """One answer about one picture or video."""

    file: str
    # Frames of a video; None for a picture.
    frames: int | None
    question: str
    answer: str
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class OutsideMedia:
    """The pictures and videos of a folder, and the names that are right about them."""

    folder: Path
    pictures: tuple[str, ...]
    videos: tuple[str, ...]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def questions(self) -> Iterator[tuple[str, int | None, str]]:
        """Yields (file, frames, question): pictures first, then videos by number of frames."""
        for file in self.pictures:
            yield from ((file, None, question) for question in PICTURE_QUESTIONS)
        for frames in FRAMES:
            for file in self.videos:
                yield from ((file, frames, question) for question in VIDEO_QUESTIONS)

    def conversation(self, file: str, frames: int | None, question: str) -> Conversation:
        """Returns a question about a file."""
        path = self.folder / file
        medium = Image(path) if frames is None else Video(path, num_frames=frames)
        return Conversation([Message("user", [medium, Text(question)])])


def open_outside(folder: Path) -> OutsideMedia:
    """Lists a folder. Raises InputError if it holds no media, DataError for wrong names."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with pictures or videos")
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    videos = tuple(name for name in files if name.lower().endswith(VIDEO_SUFFIXES))
    pictures = tuple(
        name for name in files if name.lower().endswith(PICTURES) and name not in videos
    )
    if not pictures and not videos:
        raise InputError(f"{folder}: no pictures and no videos in it; expected some of either")
    return OutsideMedia(
        folder=folder, pictures=pictures, videos=videos, names=_read_names(folder, set(files))
    )


def ask_outside(model: Model, media: OutsideMedia) -> tuple[OutsideAnswer, ...]:
    """Asks every question, a few at a time."""
    asked = list(media.questions())
    found: list[OutsideAnswer] = []
    for begin in range(0, len(asked), BATCH_SIZE):
        some = asked[begin : begin + BATCH_SIZE]
        replies = model.ask_all(
            [media.conversation(*one) for one in some], max_new_tokens=MAX_ANSWER_TOKENS
        )
        found += [
            OutsideAnswer(
                file=file,
                frames=frames,
                question=question,
                answer=reply.text,
                verdict=judge(reply.text, media.names.get(file, ())),
            )
            for (file, frames, question), reply in zip(some, replies, strict=True)
        ]
    return tuple(found)


def judge(answer: str, names: Sequence[str] = ()) -> Verdict:
    """Returns what an answer is: a refusal, one of the right names, nonsense, or no words."""
    if not WORDS.search(answer):
        return "no words"
    said = normalise(answer)
    if said.startswith(normalise(CANNOT_TELL)) and len(said.split()) <= MAX_REFUSAL_WORDS:
        return "cannot tell"
    words = f" {' '.join(WORDS.findall(said))} "
    return "named" if any(f" {normalise(name)} " in words for name in names) else "nonsense"


@dataclass(frozen=True, kw_only=True)
class OutsideShares:
    """The answers about pictures, or about videos at one number of frames, counted."""

    medium: str
    counts: Mapping[Verdict, int]
    confident_nonsense: Interval


def count_outside(answers: Sequence[OutsideAnswer]) -> Iterator[OutsideShares]:
    """Yields the shares of pictures, then of videos by number of frames."""
    for frames in (None, *FRAMES):
        some = [one for one in answers if one.frames == frames]
        if not some:
            continue
        wrong = [one.verdict in ("nonsense", "no words") for one in some]
        yield OutsideShares(
            medium="pictures" if frames is None else f"videos, {frames} frames",
            counts=Counter(one.verdict for one in some),
            confident_nonsense=mean_interval(wrong),
        )


def _read_names(folder: Path, files: set[str]) -> dict[str, list[str]]:
    path = folder / NAMES
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    expected = 'expected {"file": ["name", ...]}'
    if not isinstance(names, dict):
        raise DataError(f"{path}: it holds a {type(names).__name__}; {expected}")
    for file, some in names.items():
        if file not in files:
            raise DataError(f"{path}: no file {file!r} in the folder; {expected}")
        if not isinstance(some, list) or not all(isinstance(name, str) for name in some):
            raise DataError(f"{path}: {file!r} has {some!r:.40}; {expected}")
    return names
