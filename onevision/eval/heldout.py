"""The held-out questions of the procedural worlds: fixed before training, never trained on.

A scenario has 600 questions, one a sample, drawn from all questions the sample has an answer to.
The samples' seeds belong to the split "heldout", which no training stream draws from. Accuracy is
exact match; the *blind* baseline asks the same questions of the same model about grey media.

Reading has two sets of its own: `words` in a face that no training picture has, and values of
`charts`, right within 5 %. They are asked by name.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Image, Video
from onevision.errors import InputError
from onevision.synth.families import Maker
from onevision.synth.sample import Question, Sample, Split, rng_for
from onevision.synth.worlds.charts import charts
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes, words

Scenario = Literal["single_image", "multi_image", "video", "words", "charts"]
NUM_QUESTIONS = 600
SCENARIOS: Mapping[Scenario, Maker] = MappingProxyType(
    {"single_image": scenes.make, "multi_image": pairs.make, "video": clips.make}
)
CHART_VALUES = ("chart_value", "chart_extreme_value", "series_value", "series_extreme_value",
                "pie_share", "scatter_x", "scatter_y")  # fmt: skip
# Charts to look through for one that has such a question.
CHARTS_EACH = 50


@dataclass(frozen=True, kw_only=True)
class Item:
    """One held-out question about its media."""

    media: tuple[Image | Video, ...]
    question: Question


def heldout(scenario: str, *, count: int = NUM_QUESTIONS, blind: bool = False) -> Iterator[Item]:
    """Give the first `count` held-out questions of a scenario; `blind` greys all media."""
    makers = {**SCENARIOS, **READING}
    if scenario not in makers:
        raise InputError(f"no scenario {scenario!r}; expected one of {', '.join(makers)}")
    for index in range(count):
        sample = makers[scenario]("heldout", index)
        question = rng_for("heldout", f"{scenario}/questions", index).choice(sample.questions)
        media = tuple(map(_grey, sample.media)) if blind else sample.media
        yield Item(media=media, question=question)


def answer_mix(scenario: str, *, count: int = NUM_QUESTIONS) -> Counter[str]:
    """Count the expected answers of a scenario."""
    return Counter(item.question.answer for item in heldout(scenario, count=count))


def _chart(split: Split, index: int) -> Sample:
    """Make a chart that has a value to read, with those questions alone."""
    for number in range(CHARTS_EACH * index, CHARTS_EACH * (index + 1)):
        sample = charts.make(split, number)
        asked = tuple(q for q in sample.questions if q.family in CHART_VALUES)
        if asked:
            return replace(sample, questions=asked)
    raise AssertionError(f"none of {CHARTS_EACH} charts has a value to read")


READING: Mapping[Scenario, Maker] = MappingProxyType({"words": words.make, "charts": _chart})


def _grey(media: Image | Video) -> Image | Video:
    if isinstance(media, Image):
        assert isinstance(media.source, PillowImage)
        return replace(media, source=_grey_picture(media.source))
    assert isinstance(media.source, list)
    return replace(media, source=[_grey_picture(frame) for frame in media.source])


def _grey_picture(picture: PillowImage) -> PillowImage:
    return PIL.new("RGB", picture.size, (127, 127, 127))
