"""Prompts -> harder and rarer prompts in rounds, and their answers: Evol-Instruct (2304.12244).

    data/round-1/    a job: each prompt made harder (in depth) or replaced (in breadth)
    data/round-2/    the same with the prompts of round 1
    data/            a job: answers to the prompts of all rounds

A rewritten prompt that breaks a rule is eliminated, and the prompt that it came from enters the
next round in its place.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onevision.curate.prompt_files import PROMPTS, PromptFile, read_prompt
from onevision.curate.rules import WORD, count_words, find_fault
from onevision.curate.task import Attempt, Outcome, Refusal, SourceItem, Task, Turn
from onevision.data.sources import RecordSource
from onevision.errors import DataError

EVOLVE_PROMPTS = PROMPTS / "evolve"
# Of five rewritings, one is in breadth, as there are four ways in depth to one in breadth.
BREADTH_SHARE = 0.2
# What a writer says about its work in place of doing it.
ABOUT_ITSELF = re.compile(
    r"\b((the |your )?(given|original|rewritten|new|evolved|changed) (prompt|request)|"
    r"here is|here's|certainly|sure[,!])",
    re.IGNORECASE,
)
# A refusal in a longer text is part of a prompt about refusing.
MAX_REFUSAL_WORDS = 80


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A prompt, and where it comes from."""

    where: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class EvolveJob:
    """One round of rewriting."""

    seeds: Sequence[Seed]
    number: int  # of the round, from 1
    writer: str  # its identity
    seed: int
    prompts: Path = EVOLVE_PROMPTS
    root: Path | None = None

    @property
    def name(self) -> str:
        """The round."""
        return f"evolve-{self.number}"

    @property
    def num_items(self) -> int:
        """One task a prompt."""
        return len(self.seeds)

    @cached_property
    def prompt_files(self) -> dict[str, PromptFile]:
        """The prompts of both ways. Raises DataError."""
        return {way: _read_way(self.prompts / f"{way}.yaml") for way in ("depth", "breadth")}

    def items(self) -> Iterator[Task | Refusal]:
        """Yields a task for each prompt."""
        for place, seed in enumerate(self.seeds):
            yield self._make(place, seed)

    def read(self, task: Task, attempt: Attempt) -> Outcome:
        """Returns the new prompt as the answer to the old one, or why it is eliminated."""
        text = (attempt.text or "").strip()
        before = task.context["prompt"]
        assert isinstance(before, str)
        if fault := find_elimination(before, text, finish_reason=attempt.finish_reason):
            return Outcome(reason=fault, ask_again=True)
        return Outcome(turns=(Turn(question=before, answer=text),))

    def _make(self, place: int, seed: Seed) -> Task:
        key = f"{self.seed}/{self.number}/{place}/{seed.prompt}"
        way = "breadth" if _share(key) < BREADTH_SHARE else "depth"
        prompt = self.prompt_files[way]
        query = f"{prompt.phrasing(key)}\n\nThe request:\n{seed.prompt}"
        return Task(
            kind=way,
            source=SourceItem(where=seed.where),
            conversation=prompt.conversation(query),
            sampling=prompt.sampling,
            prompt_sha256=prompt.sha256,
            writer=self.writer,
            seed=self.seed,
            context={"prompt": seed.prompt, "round": self.number, "place": place},
        )


@dataclass(frozen=True, kw_only=True)
class AnswerJob:
    """Answers to prompts."""

    seeds: Sequence[Seed]
    writer: str  # its identity
    seed: int
    prompts: Path = EVOLVE_PROMPTS
    root: Path | None = None
    name: str = "evolve"

    @property
    def num_items(self) -> int:
        """One task a prompt."""
        return len(self.seeds)

    @cached_property
    def prompt(self) -> PromptFile:
        """The prompt file. Raises DataError."""
        return read_prompt(self.prompts / "answer.yaml")

    def items(self) -> Iterator[Task | Refusal]:
        """Yields a task for each prompt."""
        for seed in self.seeds:
            yield Task(
                kind="answer",
                source=SourceItem(where=seed.where),
                conversation=self.prompt.conversation(seed.prompt),
                sampling=self.prompt.sampling,
                prompt_sha256=self.prompt.sha256,
                writer=self.writer,
                seed=self.seed,
                context={"prompt": seed.prompt},
            )

    def read(self, task: Task, attempt: Attempt) -> Outcome:
        """Returns the answer, or the rule that it breaks."""
        text, prompt = (attempt.text or "").strip(), task.context["prompt"]
        assert isinstance(prompt, str)
        is_long = count_words(text) >= MAX_REFUSAL_WORDS
        if attempt.finish_reason == "length":
            return Outcome(reason="cut off", ask_again=True)
        fault = find_fault(text, finish_reason=None, known=[prompt, "caption box notes"])
        if fault in ("empty", "refusal") and not (fault == "refusal" and is_long):
            return Outcome(reason=fault, ask_again=True)
        return Outcome(turns=(Turn(question=prompt, answer=text),))


def read_seeds(source: RecordSource) -> list[Seed]:
    """Returns the prompts of a source. Raises DataError for a record without one."""
    seeds: list[Seed] = []
    for row in range(len(source)):
        record = source.read(row)
        prompt = record.fields.get("prompt", record.fields.get("instruction"))
        if not isinstance(prompt, str) or not prompt.strip():
            raise DataError(
                f"{record.where}: no prompt; expected words in a field prompt or instruction"
            )
        seeds.append(Seed(where=record.where, prompt=prompt.strip()))
    if not seeds:
        raise DataError(f"{source.name}: it is empty; expected prompts")
    return seeds


def find_elimination(before: str, after: str, *, finish_reason: str | None) -> str | None:
    """Returns why a rewritten prompt is eliminated, None if it is kept.

    Source: 2304.12244, section 3.2, "elimination evolving", by rules in place of a judge.
    """
    words = WORD.findall(after.casefold())
    if not words:
        return "empty"
    if finish_reason == "length":
        return "cut off"
    if words == WORD.findall(before.casefold()):
        return "unchanged"
    if ABOUT_ITSELF.search(after) and not ABOUT_ITSELF.search(before):
        return "speaks about itself"
    if len(words) < MAX_REFUSAL_WORDS and find_fault(after + ".", finish_reason=None,
                                                     known=()) == "refusal":  # fmt: skip
        return "refusal"
    return None


def _read_way(path: Path) -> PromptFile:
    prompt = read_prompt(path)
    if not prompt.content.phrasings:
        raise DataError(f"{path}: no phrasings; expected ways to change a request")
    return prompt


def _share(key: str) -> float:
    """Returns a number from 0 to 1, the same for the same key."""
    return int.from_bytes(hashlib.sha256(f"way/{key}".encode()).digest()[:6], "big") / 2**48
