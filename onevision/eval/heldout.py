"""A model + the held-out questions of the procedural worlds -> answers and exact-match accuracy.

The questions are fixed before training and never trained on: a scenario has 600, one per sample,
picked at random among the questions the sample can answer. The samples' seeds belong to the split
"heldout", which no training stream uses. The *blind* baseline asks the same model the same
questions about grey media.

Reading has two more sets, asked by name: `words` in a typeface that no training image has, and
values read off `charts`, right within 5 %. Every other world has a set of 300 (`WORLDS`). What the
sets ask is fixed by heldout_sets.json, which holds their digests.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Conversation, Image, Message, Text, Video
from onevision.errors import InputError
from onevision.eval.scoring.boxes import finds_box
from onevision.eval.scoring.numbers import relaxed_match
from onevision.eval.scoring.text import exact_match
from onevision.eval.statistics import Interval, mean_interval
from onevision.generate.answer import Model
from onevision.synth.families import FAMILIES, Maker
from onevision.synth.sample import Question, Sample, Split, rng_for
from onevision.synth.worlds.charts import charts
from onevision.synth.worlds.clips import clips
from onevision.synth.worlds.lettering import words
from onevision.synth.worlds.sets import pairs
from onevision.synth.worlds.shapes import scenes
from onevision.values import name_closest

HeldoutScenario = Literal[
    "single_image", "multi_image", "video", "words", "charts",
    "rooms", "marks", "documents", "chinese_documents", "tables", "geometry", "screens",
    "statements", "sequences", "pans", "pointed", "cameras", "boxes",
    "figures", "figure_pairs", "tap_screens", "taps", "deeds", "pointed_stills", "camera_stills",
    "edits", "video_pairs", "split_videos", "referred",
]  # fmt: skip
NUM_QUESTIONS = 600
NUM_WORLD_QUESTIONS = 300
# A digest of so many questions is checked where drawing all of them would take long.
NUM_FIRST = 10
DIGESTS = Path(__file__).with_name("heldout_sets.json")
SCENARIOS: Mapping[HeldoutScenario, Maker] = MappingProxyType(
    {"single_image": scenes.make, "multi_image": pairs.make, "video": clips.make}
)
# Worlds with a set of their own, asked by name, or together as "worlds".
WORLDS: tuple[HeldoutScenario, ...] = (
    *("rooms", "marks", "documents", "chinese_documents", "tables", "geometry", "screens"),
    *("statements", "sequences", "pans", "pointed", "cameras", "boxes"),
    *("figures", "figure_pairs", "tap_screens", "taps"),
    *("deeds", "pointed_stills", "camera_stills"),
    *("edits", "video_pairs", "split_videos", "referred"),
)
ALL_WORLDS = "worlds"
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
    # The share of visual tokens that the model read.
    keep: float = 1.0
    items: tuple[HeldoutQuestion, ...]
    answers: tuple[str, ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether each answer matches the expected one."""
        return tuple(
            is_right(answer, item.question, scenario=self.scenario)
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
                "keep": self.keep,
                "family": item.question.family,
                "question": item.question.question,
                "expected": item.question.answer,
                "answer": answer,
                "right": right,
            }


def is_right(answer: str, question: Question, *, scenario: str = "") -> bool:
    """Whether an answer is right: a box from an IoU of 0.5 on, a point inside, else the words.

    A value of a chart is right within 5 %.
    """
    if question.box is not None:
        return finds_box(answer, question.answer, question.box)
    match = relaxed_match if scenario == "charts" else exact_match
    return match(answer, question.answer)


def run_heldout(
    model: Model,
    scenario: str,
    *,
    count: int | None = None,
    blind: bool = False,
    keep: float = 1.0,
) -> HeldoutResult:
    """Asks the first `count` held-out questions of a scenario; the model reads `keep` of media.

    By default all that the scenario has.
    """
    questions = heldout_questions(scenario, count=count, blind=blind)
    return run_items(model, questions, scenario, blind=blind, keep=keep)


def run_items(
    model: Model,
    items: Iterable[HeldoutQuestion],
    scenario: str,
    *,
    blind: bool = False,
    keep: float = 1.0,
) -> HeldoutResult:
    """Asks any questions that have one right answer each; `scenario` names them in the result."""
    asked = tuple(items)
    answers: list[str] = []
    for begin in range(0, len(asked), BATCH_SIZE):
        conversations = [
            Conversation([Message("user", [*item.media, Text(item.question.question)])])
            for item in asked[begin : begin + BATCH_SIZE]
        ]
        replies = model.ask_all(conversations, keep=keep, max_new_tokens=MAX_ANSWER_TOKENS)
        answers += [reply.text for reply in replies]
    return HeldoutResult(
        scenario=scenario, blind=blind, keep=keep, items=asked, answers=tuple(answers)
    )


def heldout_questions(
    scenario: str, *, count: int | None = None, blind: bool = False
) -> Iterator[HeldoutQuestion]:
    """Yields the first `count` held-out questions of a scenario; `blind` makes all media grey.

    By default all. Raises InputError for an unknown scenario.
    """
    makers = {**SCENARIOS, **READING, **{name: FAMILIES[name] for name in WORLDS}}
    if scenario not in makers:
        raise InputError(f"no scenario {scenario!r}{name_closest(scenario, makers)}")
    for index in range(num_questions(scenario) if count is None else count):
        sample = makers[scenario]("heldout", index)
        question = rng_for("heldout", f"{scenario}/questions", index).choice(sample.questions)
        media = tuple(map(make_grey, sample.media)) if blind else sample.media
        yield HeldoutQuestion(media=media, question=question)


def num_questions(scenario: str) -> int:
    """Returns how many questions a scenario has."""
    return NUM_WORLD_QUESTIONS if scenario in WORLDS else NUM_QUESTIONS


def expand_scenarios(names: Iterable[str]) -> list[str]:
    """Returns the scenarios that are meant: "worlds" stands for every world."""
    return [each for name in names for each in (WORLDS if name == ALL_WORLDS else (name,))]


def digest(questions: Iterable[Question]) -> str:
    """Returns the SHA-256 of what is asked and expected, in hexadecimal."""
    asked = [(one.family, one.question, one.answer) for one in questions]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


def first_digest(scenario: str) -> str:
    """Returns the digest of a scenario's first questions, which stands in heldout_sets.json."""
    return digest(item.question for item in heldout_questions(scenario, count=NUM_FIRST))


def is_as_fixed(result: HeldoutResult) -> bool:
    """Whether a result asked the questions that were fixed before training, all or the first."""
    fixed = json.loads(DIGESTS.read_text(encoding="utf-8"))[result.scenario]
    questions = [item.question for item in result.items]
    if len(questions) == fixed["questions"]:
        return digest(questions) == fixed["all"]
    first = list(islice(questions, NUM_FIRST))
    return len(first) < NUM_FIRST or digest(first) == fixed["first"]


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


def make_grey(media: Image | Video) -> Image | Video:
    """Returns a medium of Pillow images with every pixel grey, of the same sizes."""
    if isinstance(media, Image):
        assert isinstance(media.source, PillowImage)
        return replace(media, source=_grey_image(media.source))
    assert isinstance(media.source, list)
    return replace(media, source=[_grey_image(frame) for frame in media.source])


def _grey_image(image: PillowImage) -> PillowImage:
    return PIL.new("RGB", image.size, (127, 127, 127))
