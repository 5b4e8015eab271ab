"""What a probe is made of: levels of one property of the input, and an item to ask at each."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL.Image import Image as PillowImage

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.eval.scoring.text import exact_match

# (picture, severity, random numbers) -> the picture, changed; severity 0 changes nothing.
Corrupt = Callable[[PillowImage, float, random.Random], PillowImage]
Scorer = Callable[[str], float]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One value of the property that a probe varies."""

    # How it is written on an axis.
    label: str
    value: float
    # Whether the procedural worlds have it in their training samples.
    trained: bool = False


@dataclass(frozen=True, kw_only=True)
class ProbeItem:
    """One question at one level."""

    conversation: Conversation
    # The text that is asked, and the answer that is expected, for a reader.
    question: str
    expected: str
    # The kind of question, by which slices are made.
    family: str
    # An answer -> 0 (wrong) to 1 (right).
    score: Scorer


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A property of the input, its levels, and what is asked at them."""

    name: str
    # What varies, and in which unit.
    title: str
    levels: tuple[Level, ...]
    # (level, seed, index) -> an item; the same index is the same question wherever it can be.
    make: Callable[[Level, int, int], ProbeItem]
    # What makes pictures that exist already so; None if they cannot be made so.
    corrupt: Corrupt | None = None
    # Which differences are no failure of the model, if any.
    note: str = ""

    @property
    def file_levels(self) -> tuple[Level, ...]:
        """The levels of pictures that exist already: the first leaves them as they are."""
        first, *rest = self.levels
        changed = tuple(rest) if first.value == 0 else self.levels
        as_is = Level(label="as is", value=0, trained=True)
        return (as_is, *(Level(label=one.label, value=one.value) for one in changed))


def drawn_item(
    media: Sequence[Image | Video], *, question: str, expected: str, family: str,
    accepted: Sequence[str] = (),
) -> ProbeItem:  # fmt: skip
    """Returns an item about media; `accepted` are further answers that are right."""
    right = (expected, *accepted)
    return ProbeItem(
        conversation=Conversation([Message("user", [*media, Text(question)])]),
        question=question,
        expected=expected,
        family=family,
        score=lambda answer: float(any(exact_match(answer, one) for one in right)),
    )
