"""Clips of named things that each do something: move, stop, come back, change colour, disappear.

frame 1     frame 4     frame 8     What does the red star do?             it moves right
| *       | |    *    | |       * | Which thing does this: it disappears?  blue triangle
|    o    | |    o    | |    o    | Where is the green circle at the end:
|       ^ | |       ^ | |         |     left, center or right?             center
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from onevision.conversation import Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.shapes import random_looks
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import (
    MOVING,
    THIRDS,
    Actor,
    Setting,
    is_only,
    random_cast,
    random_setting,
)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Things, and where they act."""

    actors: tuple[Actor, ...]
    setting: Setting


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th clip of a split."""
    rng = rng_for(split, "deeds", index)
    one = draw_apart(split, rng, _random_scenario, _describe)
    return Sample(
        media=(Video(one.setting.film(one.actors)),),
        caption=f"A clip with {number_of(len(one.actors), 'thing')}.",
        detail=_describe(one),
        questions=choose(rng, _questions(one, rng)),
    )


def _random_scenario(rng: random.Random) -> Scenario:
    count = rng.randint(2, 4)
    actors = random_cast(rng, random_looks(rng, count))
    return Scenario(actors=actors, setting=random_setting(rng, num_lanes=count))


def _describe(one: Scenario) -> str:
    """Says what every thing does."""
    deeds = "; ".join(f"{article(a.look.name)}: {one.setting.deed(a)}" for a in one.actors)
    order = "From top to bottom" if one.setting.is_wide else "From left to right"
    return f"{order}: {deeds}."


def _questions(one: Scenario, rng: random.Random) -> Iterator[Question]:
    """Asks what every thing does."""
    deeds = [one.setting.deed(actor) for actor in one.actors]
    for actor in one.actors:
        name, deed = actor.look.name, one.setting.deed(actor)
        words: tuple[str, ...] = (f"What does the {name} do?", f"What happens to the {name}?")
        yield ask(rng, "deed", words, deed)
        if is_only(deed, deeds):
            words = (f"Which thing does this: {deed}?", f"Of which thing is this true: {deed}?")
            yield ask(rng, "thing", words, name)
        if actor.deed in MOVING:
            words = (f"In which direction does the {name} set out?",)
            yield ask(rng, "direction", words, actor.heading(is_wide=one.setting.is_wide))
        if actor.deed != "vanishes":
            thirds = THIRDS[one.setting.is_wide]
            words = (f"Where is the {name} at the end: {thirds[0]}, {thirds[1]} or {thirds[2]}?",)
            yield ask(rng, "end", words, thirds[min(2, int(3 * actor.at(1)))])
    moving = sum(actor.deed in MOVING for actor in one.actors)
    words = ("How many things move?", "How many things change their place?")
    yield ask(rng, "movers", words, str(moving))
    left = sum(actor.deed != "vanishes" for actor in one.actors)
    words = ("How many things are there at the end?",)
    yield ask(rng, "left", words, str(left))
    words = ("Does anything move?",)
    yield ask(rng, "any", words, yes_or_no(moving))
