"""What a model is asked to write, under an id of its content; what it wrote; what became of it.

A task's id is a hash of all that its answer depends on: the picture's bytes, the messages, the
prompt file, the writer, the seed and the sampling. The same id is never asked twice.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from onevision.conversation import Conversation, Text

# Why there is no reply. Those of an endpoint are passing, and are asked again by the next run.
AttemptFault = Literal["refused query", "damaged picture", "timeout", "reply", "server"]
FINAL_FAULTS: tuple[AttemptFault, ...] = ("refused query", "damaged picture")
# A reply that fails a rule is asked for once more.
MAX_TRIES = 2


@dataclass(frozen=True, kw_only=True)
class SourceItem:
    """Where a task comes from: a record of the input, and its picture."""

    # For messages: "captions.jsonl, row 12".
    where: str
    # As the input names it; None for text alone.
    image: str | None = None
    sha256: str | None = None  # of the picture's bytes


@dataclass(frozen=True, kw_only=True)
class WriterSampling:
    """How a reply is sampled."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to write."""

    kind: str  # "conversation", "detail", "recaption", ...
    source: SourceItem
    # Everything the writer reads; pictures as paths or bytes.
    conversation: Conversation
    sampling: WriterSampling
    prompt_sha256: str  # of the prompt file
    writer: str  # its identity
    seed: int
    # What the reply is checked against, such as the captions; part of the id.
    context: Mapping[str, object] = field(default_factory=dict[str, object])
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self._hash())

    def seed_of(self, number: int) -> int:
        """Returns the seed of try `number`: below 2^31, as endpoints want it."""
        digest = hashlib.sha256(f"{self.id}/{number}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    def _hash(self) -> str:
        words = [
            [m.role, [p.text if isinstance(p, Text) else None for p in m.parts]]
            for m in self.conversation.messages
        ]
        content = {
            "kind": self.kind,
            "picture": self.source.sha256,
            "messages": words,
            "sampling": [self.sampling.temperature, self.sampling.max_tokens],
            "prompt": self.prompt_sha256,
            "writer": self.writer,
            "seed": self.seed,
            "context": self.context,
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A record of the input of which no task can be made, and why."""

    kind: str
    source: SourceItem
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One answer of the writer to a task, or the reason why there is none."""

    task: str
    number: int  # the first try is 0
    text: str | None
    fault: AttemptFault | None = None
    detail: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    money: float = 0.0
    # From the query to its end, beside others in flight; what a plan reckons with.
    seconds: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether the same would happen if it were asked again."""
        return self.fault is None or self.fault in FINAL_FAULTS


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a reply became: the turns of a record, or a named reason why it is none."""

    turns: tuple[Turn, ...] = ()
    reason: str | None = None
    detail: str = ""
    # Whether another answer may do better.
    ask_again: bool = False


class Job(Protocol):
    """What is asked, and how replies are read."""

    @property
    def name(self) -> str:
        """What is made: "instruct", "recaption", ..."""
        ...

    @property
    def root(self) -> Path | None:
        """Where the pictures' paths start; None without pictures."""
        ...

    @property
    def num_items(self) -> int:
        """Tasks and refusals in all."""
        ...

    def items(self) -> Iterator[Task | Refusal]:
        """Yields the tasks in the order of the input, the same each time."""
        ...

    def read(self, task: Task, attempt: Attempt) -> Outcome:
        """Returns what a reply becomes: a function of its arguments alone."""
        ...
