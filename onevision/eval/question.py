"""Question: a row or a record, ready to be asked; and where questions come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from onevision.conversation import Conversation
from onevision.eval.task import Task
from onevision.files import Line


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, or the reason why it cannot be asked."""

    row: int
    # The file and row, for error messages.
    where: str
    # The text, with a mark for each image or video that has a place in it.
    prompt: str
    # What a scorer reads: the row's fields without media, as JSON.
    item: Line
    # None if a picture or video is missing or damaged, which `problem` explains.
    conversation: Conversation | None
    problem: str | None = None


class QuestionSource(Protocol):
    """Numbered questions of one task."""

    @property
    def task(self) -> Task:
        """The task that they belong to."""
        ...

    def __len__(self) -> int:
        """Returns the number of rows; not all need be asked."""
        ...

    @property
    def files(self) -> Mapping[str, int]:
        """The size in bytes of each file, by its name."""
        ...

    def pose(self, row: int) -> Question | None:
        """Returns the question of a row; None if the task does not ask it. Raises DataError."""
        ...
