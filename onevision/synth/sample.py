"""What a procedural family generates: media, a caption of all that is in them, and questions."""

import random
from dataclasses import dataclass
from typing import Literal

from onevision.boxes import Box
from onevision.conversation import Image, Video

Split = Literal["train", "heldout"]

# The answer to what cannot be seen; other rooms use it too.
CANNOT_TELL = "I cannot tell"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question, its only right answer, and the skill it tests."""

    family: str
    question: str
    answer: str
    # What a box or a point in an answer is compared with, if the question asks for one.
    box: Box | None = None


@dataclass(frozen=True, kw_only=True)
class Region:
    """What covers a rectangle, in pixels from the top left; it may reach beyond the edges."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    def shift(self, right: float, down: float) -> "Region":
        """Returns the region farther to the right and down."""
        return Region(
            name=self.name,
            left=self.left + right,
            top=self.top + down,
            right=self.right + right,
            bottom=self.bottom + down,
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Media, with everything there is to say about them."""

    media: tuple[Image | Video, ...]
    caption: str
    questions: tuple[Question, ...]
    # Short captions, each of one property of everything in view: "Shapes: ring, star."
    aspects: tuple[str, ...] = ()
    # Everything there is to say, if the caption does not say it all.
    detail: str | None = None
    # What covers the only picture, if the family says so.
    regions: tuple[Region, ...] = ()

    @property
    def description(self) -> str:
        """The fullest description: `detail`, else the caption."""
        return self.caption if self.detail is None else self.detail


def rng_for(split: Split, family: str, index: int) -> random.Random:
    """Returns the random numbers of one sample; two splits never share a stream."""
    return random.Random(f"onevision/{split}/{family}/{index}")


def ask(rng: random.Random, family: str, phrasings: tuple[str, ...], answer: str) -> Question:
    """Asks in one of several phrasings, chosen at random."""
    return Question(family=family, question=rng.choice(phrasings), answer=answer)
