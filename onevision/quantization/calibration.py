"""Where calibration samples come from -> conversations with answers, as inputs of the model.

A sample whose picture cannot be read is left out and counted. A question without an answer gets
the model's own, so that the network is seen writing too.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onevision.batch import ModelInputs
from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.data.containers import PICTURES, SUFFIXES
from onevision.data.mixture import open_mixture
from onevision.data.records import to_conversation
from onevision.errors import DataError, InputError
from onevision.generate.answer import Model

DEMO = Path(__file__).parents[1] / "assets" / "demo"
# What is asked about each picture of a folder without records.
QUESTIONS = ("Describe the picture.", "How many objects are in the picture?")
NUM_FRAMES = 8
MAX_ANSWER_TOKENS = 48
BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What calibration asks, before any picture is decoded."""

    # Where from, in words.
    source: str
    conversations: tuple[Conversation, ...]
    # Why records were left out.
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The samples that a network is calibrated on."""

    source: str
    samples: tuple[ModelInputs, ...]
    skipped: tuple[str, ...]


def find_questions(path: Path | None, *, num_samples: int, seed: int = 0) -> Questions:
    """Reads up to `num_samples` conversations: of records, of a folder of pictures, or the demo's.

    Records are picked at random. Raises DataError if there is nothing to read.
    """
    if path is None:
        demo = _demo_questions()
        chosen = _choose(len(demo), num_samples, seed=seed)
        source = "the embedded demo's pictures and video"
        return Questions(source=source, conversations=tuple(demo[i] for i in chosen))
    pictures = _list_pictures(path)
    if pictures:
        pairs = [(picture, question) for picture in pictures for question in QUESTIONS]
        chosen = _choose(len(pairs), num_samples, seed=seed)
        asked = [_ask([Image(str(pairs[i][0]))], pairs[i][1]) for i in chosen]
        source = f"{len(pictures):,} pictures of {path}, {len(QUESTIONS)} questions each"
        return Questions(source=source, conversations=tuple(asked))
    mixture = open_mixture(path)
    places = [(d, int(row)) for d in mixture.datasets for row in d.rows]
    asked, skipped = list[Conversation](), list[str]()
    for index in _choose(len(places), num_samples, seed=seed):
        dataset, row = places[index]
        try:
            record = dataset.source.read(row)
            asked.append(to_conversation(record, num_frames=NUM_FRAMES))
        except DataError as error:
            skipped.append(str(error))
    return Questions(
        source=f"{len(places):,} records of {path}",
        conversations=tuple(asked),
        skipped=tuple(skipped),
    )


def prepare(model: Model, questions: Questions) -> Calibration:
    """Decodes the questions and adds the answers they lack. Raises InputError if none is usable."""
    usable: list[Conversation] = []
    skipped = list(questions.skipped)
    for talk in questions.conversations:
        try:
            outline = model.processor.outline(talk)
            model.check_length(outline)
            model.processor.example(outline)
        except (InputError, DataError) as error:
            skipped.append(str(error))
            continue
        usable.append(talk)
    if not usable:
        first = f"; the first: {skipped[0]}" if skipped else ""
        raise InputError(f"{questions.source}: no usable calibration sample{first}")
    answered = _answer(model, usable)
    return Calibration(
        source=questions.source,
        samples=tuple(model.processor(talk) for talk in answered),
        skipped=tuple(skipped),
    )


def _answer(model: Model, talks: Sequence[Conversation]) -> list[Conversation]:
    """Returns the conversations, those that end with a question with the model's answer."""
    open_talks = [i for i, talk in enumerate(talks) if talk.awaits_answer]
    answered = list(talks)
    for first in range(0, len(open_talks), BATCH_SIZE):
        batch = open_talks[first : first + BATCH_SIZE]
        replies = model.ask_all([talks[i] for i in batch], max_new_tokens=MAX_ANSWER_TOKENS)
        for i, reply in zip(batch, replies, strict=True):
            if reply.text:  # an answer may end at once
                said = Message("assistant", [Text(reply.text)])
                answered[i] = Conversation([*talks[i].messages, said])
    return answered


def _demo_questions() -> tuple[Conversation, ...]:
    scenes = json.loads((DEMO / "demo.json").read_text(encoding="utf-8"))
    return tuple(
        _ask([_media(scene["kind"], name) for name in scene["files"]], question)
        for scene in scenes
        for question in scene["questions"]
    )


def _media(kind: str, name: str) -> Image | Video:
    path = str(DEMO / name)
    return Video(path, num_frames=NUM_FRAMES) if kind == "video" else Image(path)


def _ask(media: Sequence[Image | Video], question: str) -> Conversation:
    return Conversation([Message("user", [*media, Text(question)])])


def _list_pictures(path: Path) -> list[Path]:
    """Returns the pictures of a folder that holds no records."""
    if not path.is_dir() or any(file.suffix in SUFFIXES for file in path.iterdir()):
        return []
    return sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)


def _choose(available: int, most: int, *, seed: int) -> list[int]:
    """Returns the numbers of up to `most` samples, picked at random, in their order."""
    order = np.random.default_rng(seed).permutation(available)
    return sorted(int(i) for i in order[:most])
