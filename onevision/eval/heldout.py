"""A model + the held-out questions of the procedural worlds -> answers and exact-match accuracy.

The questions are fixed before training and never trained on: a scenario has 600, one per sample,
picked at random among the questions the sample can answer. The samples' seeds belong to the split
"heldout", which no training stream uses. The *blind* baseline asks the same model the same
questions about grey media.

Reading has two more sets, asked by name: `words` in a typeface that no training image has, and
values read off `charts`, right within 5 %.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.errors import InputError
from onevision.eval.scoring.numbers import relaxed_match
from onevision.eval.scoring.text import exact_match
from onevision.eval.statistics import Interval, mean_interval
from onevision.generate.answer import Model
from onevision.synth.families import Maker
from onevision.synth.sample import Question, Sample, Split, rng_for
from onevision.synth.worlds.charts import charts
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.lettering import words
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes
from onevision.values import name_closest

HeldoutScenario = Literal["single_image", "multi_image", "video", "words", "charts"]
NUM_QUESTIONS = 600
SCENARIOS: Mapping[HeldoutScenario, Maker] = MappingProxyType(
    {"single_image": scenes.make, "multi_image": pairs.make, "video": clips.make}
)
CHART_VALUES = ("chart_value", "chart_extreme_value", "series_value", "series_extreme_value",
                "pie_share", "scatter_x", "scatter_y")  # fmt: skip
# Charts to search for one with such a question.
CHARTS_EACH = 50
BATCH_SIZE = 20
MAX_ANSWER_TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class HeldoutQuestion:
    """One held-out question about its media."""

    media: tuple[Image | Video, ...]
    question: Question


@dataclass(frozen=True, kw_only=True)
class HeldoutResult:
    """The answers to a scenario's questions."""

    scenario: str
    blind: bool
    items: tuple[HeldoutQuestion, ...]
    answers: tuple[str, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether each answer matches the expected one; a value of a chart, within 5 %."""
        match = relaxed_match if self.scenario == "charts" else exact_match
        return tuple(
            match(answer, item.question.answer)
            for item, answer in zip(self.items, self.answers, strict=True)
        )

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return sum(self.right) / len(self.items)

    @property
    def interval(self) -> Interval:
        """The accuracy with its confidence interval."""
        return mean_interval(self.right)

    def by_family(self) -> dict[str, tuple[int, int]]:
        """Returns (number right, number asked) of each question family."""
        return {family: (sum(right), len(right)) for family, right in self._families().items()}

    def intervals_by_family(self) -> dict[str, Interval]:
        """Returns the accuracy of each question family with its confidence interval."""
        return {family: mean_interval(right) for family, right in self._families().items()}

    def _families(self) -> dict[str, list[bool]]:
        families: dict[str, list[bool]] = {}
        for item, is_right in zip(self.items, self.right, strict=True):
            families.setdefault(item.question.family, []).append(is_right)
        return families

    def records(self) -> Iterator[dict[str, object]]:
        """Yields a JSON record per answer."""
        for item, answer, right in zip(self.items, self.answers, self.right, strict=True):
            yield {
                "scenario": self.scenario,
                "blind": self.blind,
                "family": item.question.family,
                "question": item.question.question,
                "expected": item.question.answer,
                "answer": answer,
                "right": right,
            }


def run_heldout(
    model: Model, scenario: str, *, count: int = NUM_QUESTIONS, blind: bool = False
) -> HeldoutResult:
    """Asks the first `count` held-out questions of a scenario."""
    questions = heldout_questions(scenario, count=count, blind=blind)
    return run_items(model, questions, scenario, blind=blind)


def run_items(
    model: Model, items: Iterable[HeldoutQuestion], scenario: str, *, blind: bool = False
) -> HeldoutResult:
    """Asks any questions that have one right answer each; `scenario` names them in the result."""
    asked = tuple(items)
    answers: list[str] = []
    for begin in range(0, len(asked), BATCH_SIZE):
        conversations = [
            Conversation([Message("user", [*item.media, Text(item.question.question)])])
            for item in asked[begin : begin + BATCH_SIZE]
        ]
        replies = model.ask_all(conversations, max_new_tokens=MAX_ANSWER_TOKENS)
        answers += [reply.text for reply in replies]
    return HeldoutResult(scenario=scenario, blind=blind, items=asked, answers=tuple(answers))


def heldout_questions(
    scenario: str, *, count: int = NUM_QUESTIONS, blind: bool = False
) -> Iterator[HeldoutQuestion]:
    """Yields the first `count` held-out questions of a scenario; `blind` makes all media grey."""
    makers = {**SCENARIOS, **READING}
    if scenario not in makers:
        raise InputError(f"no scenario {scenario!r}{name_closest(scenario, makers)}")
    for index in range(count):
        sample = makers[scenario]("heldout", index)
        question = rng_for("heldout", f"{scenario}/questions", index).choice(sample.questions)
        media = tuple(map(_make_grey, sample.media)) if blind else sample.media
        yield HeldoutQuestion(media=media, question=question)


def _make_chart(split: Split, index: int) -> Sample:
    """Makes a chart with a value to read, with the questions about values alone."""
    for number in range(CHARTS_EACH * index, CHARTS_EACH * (index + 1)):
        sample = charts.make(split, number)
        questions = tuple(q for q in sample.questions if q.family in CHART_VALUES)
        if questions:
            return replace(sample, questions=questions)
    raise AssertionError(f"none of {CHARTS_EACH} charts has a value to read")


READING: Mapping[HeldoutScenario, Maker] = MappingProxyType(
    {"words": words.make, "charts": _make_chart}
)


def _make_grey(media: Image | Video) -> Image | Video:
    if isinstance(media, Image):
        assert isinstance(media.source, PillowImage)
        return replace(media, source=_grey_image(media.source))
    assert isinstance(media.source, list)
    return replace(media, source=[_grey_image(frame) for frame in media.source])


def _grey_image(image: PillowImage) -> PillowImage:
    return PIL.new("RGB", image.size, (127, 127, 127))
