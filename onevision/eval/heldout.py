"""The held-out questions of the procedural worlds: fixed before training, never trained on.

A scenario has 600 questions, one a sample, drawn from all questions the sample has an answer to.
The samples' seeds belong to the split "heldout", which no training stream draws from. Accuracy is
exact match; the *blind* baseline asks the same questions of the same model about grey media.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Image, Video
from onevision.synth import clips, pairs, scenes
from onevision.synth.sample import Question, rng_for

NUM_QUESTIONS = 600
SCENARIOS = MappingProxyType(
    {"single_image": scenes.make, "multi_image": pairs.make, "video": clips.make}
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One held-out question about its media."""

    media: tuple[Image | Video, ...]
    question: Question


def heldout(scenario: str, *, count: int = NUM_QUESTIONS, blind: bool = False) -> Iterator[Item]:
    """Give the first `count` held-out questions of a scenario; `blind` greys all media."""
    for index in range(count):
        sample = SCENARIOS[scenario]("heldout", index)
        question = rng_for("heldout", f"{scenario}/questions", index).choice(sample.questions)
        media = tuple(map(_grey, sample.media)) if blind else sample.media
        yield Item(media=media, question=question)


def answer_mix(scenario: str, *, count: int = NUM_QUESTIONS) -> Counter[str]:
    """Count the expected answers of a scenario."""
    return Counter(item.question.answer for item in heldout(scenario, count=count))


def _grey(media: Image | Video) -> Image | Video:
    if isinstance(media, Image):
        assert isinstance(media.source, PillowImage)
        return replace(media, source=_grey_picture(media.source))
    assert isinstance(media.source, list)
    return replace(media, source=[_grey_picture(frame) for frame in media.source])


def _grey_picture(picture: PillowImage) -> PillowImage:
    return PIL.new("RGB", picture.size, (127, 127, 127))
