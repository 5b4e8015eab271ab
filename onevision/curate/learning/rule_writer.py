"""Captions of procedural scenes -> instruction data by rule: a writer that is never wrong.

It reads the caption of a scene (`synth/worlds/shapes/scenes.py`), as a model would, and writes each
kind in the form that `instruct` asks for. What it costs is nothing, and what it says is exact, so
it shows what the three kinds do to a model, apart from how well a writer writes.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.curate.instruct import as_kind
from onevision.curate.task import Attempt, Task
from onevision.curate.writer import Answered, NextAsk
from onevision.synth.kit.shapes import COLOURS, SHAPES

HEAD = re.compile(r"A (\w+) picture with (\d+) objects?\.")
THING = re.compile(r"A (small|large) ((?:\w+ )?\w+) (\w+) at the ([a-z ]+)\.")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A thing that a caption names."""

    size: str
    colour: str
    shape: str
    place: str

    @property
    def name(self) -> str:
        """Size, colour and shape."""
        return f"{self.size} {self.colour} {self.shape}"


class RuleWriter:
    """Writes by rule; its replies depend on the task and on the try alone."""

    identity = "rules-1"

    def answers(self, next_ask: NextAsk) -> Iterator[Answered]:
        """Yields a reply to each task; see Writer."""
        while (ask := next_ask()) is not None:
            text = write_reply(ask.task, seed=ask.task.seed_of(ask.number))
            attempt = Attempt(task=ask.task.id, number=ask.number, text=text, finish_reason="stop",
                              prompt_tokens=0, completion_tokens=0)  # fmt: skip
            yield Answered(ask, attempt)


def write_reply(task: Task, *, seed: int) -> str:
    """Returns what a writer replies; "" if the captions are of no scene."""
    lines = task.context["lines"]
    assert isinstance(lines, list)
    head, rng = HEAD.match(lines[0]), random.Random(seed)
    things = [Seen(size=size, colour=colour, shape=shape, place=place)
              for size, colour, shape, place in THING.findall(lines[0])]  # fmt: skip
    if head is None or not things:
        return ""
    write = {"conversation": _talk, "detail": _describe, "reasoning": _reason}[as_kind(task.kind)]
    return write(head[1], things, rng)


def _talk(ground: str, things: list[Seen], rng: random.Random) -> str:
    one, colours = rng.choice(things), Counter(thing.colour for thing in things)
    absent = rng.choice([shape for shape in SHAPES if all(t.shape != shape for t in things)])
    turns = [
        ("How many objects does the picture show?", f"It shows {_count(len(things))}."),
        (f"What can be seen at the {one.place}?", f"At the {one.place} there is a {one.name}."),
        (f"Is there a {absent} in the picture?", f"No, the picture does not show a {absent}."),
        ("Which colour is behind the objects?", f"The background is {ground}."),
        (f"How many of the objects are {one.colour}?",
         f"Of the objects, {NUMBERS[colours[one.colour]]} {_be(colours[one.colour])} "
         f"{one.colour}."),
    ]  # fmt: skip
    rng.shuffle(turns)
    return "\n".join(f"Q: {question}\nA: {answer}" for question, answer in turns[:3])


def _describe(ground: str, things: list[Seen], rng: random.Random) -> str:
    del rng
    said = [f"At the {thing.place} there is a {thing.name}." for thing in things]
    return (
        f"The picture has a {ground} background, and it shows {_count(len(things))} in all. "
        + " ".join(said)
        + " Nothing else stands out."
    )


def _reason(ground: str, things: list[Seen], rng: random.Random) -> str:
    del ground, rng
    colours = Counter(thing.colour for thing in things)
    ranked = [colour for colour in COLOURS if colours[colour]]
    ranked.sort(key=lambda colour: -colours[colour])
    said = " ".join(f"There is a {thing.name} at the {thing.place}." for thing in things)
    counted = ", ".join(f"{colour} {colours[colour]}" for colour in ranked)
    first = [colour for colour in ranked if colours[colour] == colours[ranked[0]]]
    result = (
        f"No other colour occurs as often as {first[0]}, so {first[0]} would win the vote."
        if len(first) == 1
        else f"The colours {' and '.join(first)} occur equally often, so the vote has no winner."
    )
    return (
        "Q: If every object had one vote for its own colour, which colour would win?\n"
        f"A: To count the votes, I go through the objects one after the other. {said} Counting by "
        f"colour gives {counted}. {result}"
    )


def _count(number: int) -> str:
    return f"{NUMBERS[number]} object{'' if number == 1 else 's'}"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"
