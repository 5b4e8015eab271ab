"""A model + probes -> answers in a directory. An interrupted run continues where it stopped.

    run.json        what was asked of which model
    answers.jsonl   {"row": 7, "probe": "noise", "level": "16", "index": 3, "score": 1.0, ...}

Every item is asked twice, with its media and with grey ones (*blind*). What was asked before, in
the same words about the same pixels, is not asked again: grey media at other levels, and what
several probes leave as it is. The reference level comes first; of what is answered correctly there,
the pictures of the first wrong answers at each level are kept, small, so that a page needs nothing
but this directory.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from onevision.conversation import Conversation, Message, Reply, Text
from onevision.errors import CapacityError, ContextLengthError, MediaError, OneVisionError
from onevision.eval.answers import AnswerFiles
from onevision.eval.benchmark import ask_where_possible
from onevision.eval.heldout import MAX_ANSWER_TOKENS, make_grey
from onevision.files import Line
from onevision.generate.answer import Model
from onevision.science.probes.files import FileItems
from onevision.science.probes.item import Level, Probe, ProbeItem
from onevision.science.probes.registry import levels_of, reference_of
from onevision.science.probes.thumbnails import encode_thumbnail, pillow_images

BATCH_SIZE = 8
# Kept pictures of wrong answers, at each level.
NUM_EXAMPLES = 2
MAX_KEPT_TEXT = 300
KIND = "probe"
Outcome = Reply | OneVisionError


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What is asked. Results depend on all of it, except for the number of questions."""

    probes: tuple[Probe, ...]
    count: int
    # Whose answers these are: a folder holds those of one kind.
    kind: str = KIND
    seed: int = 0
    # What is said after every question about drawn worlds.
    suffix: str = ""
    # The share of visual tokens that the model reads.
    keep: float = 1.0
    # A benchmark's questions in place of drawn worlds.
    files: FileItems | None = None
    # Whether pictures of wrong answers are kept; those of drawn worlds can be drawn again.
    keep_pictures: bool = True

    def settings(self) -> Line:
        """Returns what answers depend on, for run.json."""
        data: Line = {"name": "", "files": [], "bytes": []}
        if self.files is not None:
            source = self.files.source
            data = {
                "name": self.files.name,
                "files": list(source.files),
                "bytes": list(source.files.values()),
            }
        return {
            "kind": self.kind,
            "seed": self.seed,
            "suffix": self.suffix,
            "keep": self.keep,
            "data": data,
        }


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An item and its place."""

    probe: str
    level: str
    index: int
    item: ProbeItem


@dataclass(kw_only=True)
class ProbeRun:
    """One run over all probes."""

    model: Model
    config: ProbeConfig
    output: AnswerFiles
    # Called with the number of answers, and how many there will be.
    on_progress: Callable[[int, int], object]
    _known: dict[bytes, Outcome] = field(default_factory=dict)
    # Pictures that were kept, by probe and level.
    _examples: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Items that are wrong at the reference, by probe and index.
    _wrong: set[tuple[str, int]] = field(default_factory=set)

    def run(self, *, name: str, fingerprint: str) -> list[Line]:
        """Answers what has no answer yet; returns all answers, in the order they were written.

        Raises DataError if the directory holds answers of another run.
        """
        dtype = str(self.model.network.language_model.dtype)
        about = {"name": name, "fingerprint": fingerprint, "dtype": dtype}
        self.output.begin(self.config.settings() | {"model": about})
        before = self.output.answers()
        for line in before:
            self._note(line)
        done = {(one["probe"], one["level"], one["index"]) for one in before}
        row, total = len(before), len(done) + self._count_remaining(done)
        remaining = self._remaining(done)
        while batch := list(islice(remaining, BATCH_SIZE)):
            lines = self._answer(batch, row)
            self.output.add(lines)
            row += len(lines)
            self.on_progress(row, total)
        return self.output.answers()

    def _places(self) -> Iterator[tuple[Probe, Level, int]]:
        """Yields (probe, level, index) of every item."""
        files = self.config.files
        indices = range(self.config.count) if files is None else files.rows
        for probe in self.config.probes:
            levels = levels_of(probe, on_files=files is not None)
            first = reference_of(levels)
            for level in (first, *(one for one in levels if one is not first)):
                yield from ((probe, level, index) for index in indices)

    def _count_remaining(self, done: set[tuple[str, str, int]]) -> int:
        return sum((p.name, level.label, n) not in done for p, level, n in self._places())

    def _remaining(self, done: set[tuple[str, str, int]]) -> Iterator[Asked]:
        for probe, level, index in self._places():
            if (probe.name, level.label, index) not in done:
                item = self._make(probe, level, index)
                yield Asked(probe=probe.name, level=level.label, index=index, item=item)

    def _make(self, probe: Probe, level: Level, index: int) -> ProbeItem:
        config = self.config
        if config.files is None:
            return probe.make(level, config.seed, index)
        return config.files.make(probe, level, seed=config.seed, row=index)

    def _answer(self, batch: Sequence[Asked], row: int) -> list[Line]:
        began = time.monotonic()
        talks = [_with_suffix(one.item.conversation, self.config.suffix) for one in batch]
        grey = [_blinded(talk) for talk in talks]
        keys, grey_keys = list(map(_digest, talks)), list(map(_digest, grey))
        asked = dict(zip((*keys, *grey_keys), (*talks, *grey), strict=True))
        new = {key: talk for key, talk in asked.items() if key not in self._known}
        self._known |= dict(zip(new, self._ask(list(new.values())), strict=True))
        seconds = round((time.monotonic() - began) / len(batch), 3)
        return [
            self._line(one, row + place, self._known[key], self._known[grey_key], seconds)
            for place, (one, key, grey_key) in enumerate(zip(batch, keys, grey_keys, strict=True))
        ]

    def _ask(self, talks: Sequence[Conversation]) -> list[Outcome]:
        if not talks:
            return []
        files, keep = self.config.files, self.config.keep
        most = MAX_ANSWER_TOKENS if files is None else files.source.task.max_new_tokens
        outcomes = ask_where_possible(self.model, talks, keep=keep, max_new_tokens=most)
        for outcome in outcomes:
            if isinstance(outcome, OneVisionError) and not isinstance(
                outcome, MediaError | ContextLengthError | CapacityError
            ):
                raise outcome
        return outcomes

    def _line(
        self, one: Asked, row: int, reply: Outcome, blind: Outcome,
        seconds: float,
    ) -> Line:  # fmt: skip
        item, answer, unseen = one.item, _text(reply), _text(blind)
        line: Line = {
            "row": row,
            "probe": one.probe,
            "level": one.level,
            "index": one.index,
            "family": item.family,
            "question": item.question[:MAX_KEPT_TEXT],
            "expected": item.expected,
            "answer": answer[:MAX_KEPT_TEXT],
            "score": item.score(answer) if isinstance(reply, Reply) else 0.0,
            "blind": item.score(unseen) if isinstance(blind, Reply) else 0.0,
            "tokens": reply.usage.prompt_tokens if isinstance(reply, Reply) else 0,
            "seconds": seconds,
        }
        if not isinstance(reply, Reply):
            line["failure"] = str(reply)
        if self._is_example(line):
            line["picture"] = encode_thumbnail(item.conversation.media)
        self._note(line)
        return line

    def _is_example(self, line: Line) -> bool:
        """Whether a picture is kept: wrong here, and not only because it is at the reference."""
        if not self.config.keep_pictures:
            return False
        is_free = self._examples[line["probe"], line["level"]] < NUM_EXAMPLES
        return line["score"] < 1 and is_free and (line["probe"], line["index"]) not in self._wrong

    def _note(self, line: Line) -> None:
        """Remembers what the choice of examples depends on."""
        if "picture" in line:
            self._examples[line["probe"], line["level"]] += 1
        probe = next((one for one in self.config.probes if one.name == line["probe"]), None)
        if probe is None or line["score"] == 1:  # no probe of this command: nothing depends on it
            return
        levels = levels_of(probe, on_files=self.config.files is not None)
        if line["level"] == reference_of(levels).label:
            self._wrong.add((line["probe"], line["index"]))


def _text(outcome: Outcome) -> str:
    return outcome.text if isinstance(outcome, Reply) else ""


def _with_suffix(conversation: Conversation, suffix: str) -> Conversation:
    if not suffix:
        return conversation
    *before, last = conversation.messages
    said = Message("user", [*last.parts, Text(f"\n{suffix}")])
    return Conversation([*before, said])


def _blinded(conversation: Conversation) -> Conversation:
    """Returns the conversation with every picture and frame grey."""
    return Conversation(
        [
            Message(
                message.role,
                [p if isinstance(p, Text) else make_grey(p) for p in message.parts],
                media_separator=message.media_separator,
            )
            for message in conversation.messages
        ]
    )


def _digest(conversation: Conversation) -> bytes:
    """Returns a hash of all that an answer depends on: roles, texts, and pixels."""
    digest = hashlib.blake2b(digest_size=16)
    for message in conversation.messages:
        digest.update(f"\0{message.role}".encode())
        for part in message.parts:
            if isinstance(part, Text):
                digest.update(f"\0text {part.text}".encode())
                continue
            digest.update(f"\0{type(part).__name__}".encode())
            for picture in pillow_images(part):
                digest.update(f"\0{picture.size}".encode())
                digest.update(picture.tobytes())
    return digest.digest()
