"""Captions and boxes -> conversations, descriptions and reasoning, by a writer without eyes.

This is how the 158K records of LLaVA's instruction data were made (2304.08485, section 3): a text
model reads what is known of a picture and writes as if it saw it. Each picture becomes a task of
each kind.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from onevision.curate.captions import Caption, read_caption
from onevision.curate.pictures import PictureReader
from onevision.curate.prompt_files import PROMPTS, PromptFile, read_prompt
from onevision.curate.rules import count_words, find_fault, is_indefinite
from onevision.curate.task import Attempt, Outcome, Refusal, SourceItem, Task, Turn
from onevision.data.sources import RecordSource
from onevision.errors import ConfigError, DataError

Kind = Literal["conversation", "detail", "reasoning"]
KINDS: tuple[Kind, ...] = get_args(Kind)
INSTRUCT_PROMPTS = PROMPTS / "instruct"
# A question or an answer of a reply, up to the next.
TURN = re.compile(r"^\s*(Q|A|Question|Answer)\s*:\s*", re.IGNORECASE | re.MULTILINE)
# Turns of a conversation: fewer are no conversation.
MIN_TURNS = 2


@dataclass(frozen=True, kw_only=True)
class InstructJob:
    """Instruction data of the pictures of a source."""

    source: RecordSource
    kinds: Sequence[Kind]
    writer: str  # its identity
    seed: int
    prompts: Path = INSTRUCT_PROMPTS
    name: str = "instruct"

    @property
    def root(self) -> Path | None:
        """Where the pictures' paths start."""
        return self.source.root

    @property
    def num_items(self) -> int:
        """One task a picture and kind."""
        return len(self.source) * len(self.kinds)

    @cached_property
    def prompt_files(self) -> dict[Kind, PromptFile]:
        """The prompt of each kind. Raises DataError."""
        return {kind: _read_checked(self.prompts / f"{kind}.yaml", kind) for kind in self.kinds}

    @cached_property
    def _pictures(self) -> PictureReader:
        return PictureReader()

    def items(self) -> Iterator[Task | Refusal]:
        """Yields the tasks of each picture, kind by kind."""
        for row in range(len(self.source)):
            for kind in self.kinds:
                yield self._make(row, kind)

    def read(self, task: Task, attempt: Attempt) -> Outcome:
        """Returns the turns of a reply, or the rule that it breaks."""
        text, known = attempt.text or "", _known(task)
        if fault := find_fault(text, finish_reason=attempt.finish_reason, known=known):
            return Outcome(reason=fault, ask_again=True)
        prompt = self.prompt_files[as_kind(task.kind)]
        if task.kind == "detail":
            turns = (Turn(question=prompt.phrasing(task.id), answer=text.strip()),)
        else:
            turns = split_turns(text)
        fault = check_turns(turns, as_kind(task.kind), min_words=prompt.content.min_words)
        return Outcome(reason=fault, ask_again=True) if fault else Outcome(turns=turns)

    def _make(self, row: int, kind: Kind) -> Task | Refusal:
        try:
            record = self.source.read(row)
            caption = read_caption(record)
        except DataError as error:
            source = SourceItem(where=f"{self.source.name}, row {row}")
            return Refusal(kind=kind, source=source, reason="unreadable record", detail=str(error))
        picture = self._pictures.read(record, caption.image, kind=kind)
        if isinstance(picture, Refusal):
            return picture
        prompt = self.prompt_files[kind]
        return Task(
            kind=kind,
            source=picture.source,
            conversation=prompt.conversation("\n".join(caption.lines)),
            sampling=prompt.sampling,
            prompt_sha256=prompt.sha256,
            writer=self.writer,
            seed=self.seed,
            context=_context(caption),
        )


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """Parses "conversation,detail". Raises ConfigError."""
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names):
        raise ConfigError(f"--kinds is {text!r}, which names a kind twice; name each once")
    return tuple(as_kind(name) for name in names)


def as_kind(name: str) -> Kind:
    """Returns a kind by its name. Raises ConfigError."""
    for kind in KINDS:
        if kind == name:
            return kind
    raise ConfigError(f"no kind is named {name!r}; expected some of {','.join(KINDS)}")


def split_turns(text: str) -> tuple[Turn, ...]:
    """Returns the questions and answers of a reply; () if they do not alternate."""
    marks = list(TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        return ()
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    parts = [
        (mark[1][0].upper(), text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    if [letter for letter, _ in parts] != ["Q", "A"] * (len(parts) // 2):
        return ()
    said = [words for _, words in parts]
    return tuple(
        Turn(question=question, answer=answer)
        for question, answer in zip(said[::2], said[1::2], strict=True)
    )


def check_turns(turns: Sequence[Turn], kind: Kind, *, min_words: int) -> str | None:
    """Returns the name of the first rule that the turns of a kind break."""
    if not turns:
        return "no questions and answers"
    certain, is_ours = kind == "conversation", kind == "detail"  # a phrasing of the prompt file
    questions = {turn.question.casefold() for turn in turns}
    rules = {
        "empty turn": any(not turn.question or not turn.answer for turn in turns),
        "too few turns": kind == "conversation" and len(turns) < MIN_TURNS,
        "too many turns": kind == "reasoning" and len(turns) > 1,
        "repeated question": len(questions) < len(turns),
        "indefinite question": any(
            is_indefinite("" if is_ours else turn.question, turn.answer, certain=certain)
            for turn in turns
        ),
        "too short": any(count_words(turn.answer) < min_words for turn in turns),
    }
    return next((name for name, is_broken in rules.items() if is_broken), None)


def _context(caption: Caption) -> dict[str, object]:
    return {"lines": list(caption.lines)}


def _known(task: Task) -> list[str]:
    lines = task.context["lines"]
    assert isinstance(lines, list)
    return lines


def _read_checked(path: Path, kind: Kind) -> PromptFile:
    prompt = read_prompt(path)
    if kind == "detail" and not prompt.content.phrasings:
        raise DataError(f"{path}: no phrasings; expected the questions that a description answers")
    return prompt
