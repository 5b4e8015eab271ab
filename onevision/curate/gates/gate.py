"""What a gate is: records, several at a time -> for each, why it should be left out, or None."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from onevision.conversation import Conversation, Text
from onevision.data.forms.raw import RawRecord


@dataclass(frozen=True)
class GateItem:
    """A record as it lies in its source, and as it is learned."""

    record: RawRecord
    conversation: Conversation

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """The text of each answer."""
        return self._texts("assistant")

    @cached_property
    def questions(self) -> tuple[str, ...]:
        """The text of each question, without its media."""
        return self._texts("user")

    @property
    def text(self) -> str:
        """All that is said."""
        return "\n".join((*self.questions, *self.answers))

    def _texts(self, role: str) -> tuple[str, ...]:
        return tuple(
            " ".join(part.text for part in message.parts if isinstance(part, Text)).strip()
            for message in self.conversation.messages
            if message.role == role
        )


class Gate(Protocol):
    """A step that marks records. It may remember those it has seen."""

    @property
    def name(self) -> str:
        """What it looks for."""
        ...

    def check(self, items: Sequence[GateItem]) -> list[str | None]:
        """Returns why each record should be left out, None for one that passes."""
        ...
