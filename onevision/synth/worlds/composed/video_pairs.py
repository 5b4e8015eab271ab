"""Two videos of the same things, which differ in one of them or in none.

first video            second video           Which shape differs, or "none"?           star
| *     | |     * |    |     * | | *     |    What does the red star do in the second video,
|   o   | |   o   |    |   o   | |   o   |        unlike in the first?               it moves left
|     ^ | |     ^ |    |     ^ | |     ^ |    How many things are alike in both?            2
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from onevision.conversation import Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.shapes import COLOURS, Look, random_looks
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import (
    DEEDS,
    Actor,
    Setting,
    give_deed,
    random_cast,
    random_setting,
)

# What differs, as questions name it.
KINDS = {
    "deed": "what a thing does",
    "colour": "the colour of a thing",
    "thing": "which things there are",
    "nothing": "nothing",
}
# What has one colour from beginning to end, so that its colour can be another one.
COLOURED = tuple(deed for deed in DEEDS if deed != "turns")


@dataclass(frozen=True, kw_only=True)
class VideoPair:
    """The things of each video, what differs, and the thing that does, in the first and second."""

    first: tuple[Actor, ...]
    second: tuple[Actor, ...]
    kind: str
    before: Actor | None
    after: Actor | None
    setting: Setting

    @property
    def shape(self) -> str:
        """The shape that differs; no two things have the same."""
        thing = self.before or self.after
        return "none" if thing is None else thing.look.shape

    @property
    def has_one_kind(self) -> bool:
        """Whether the difference is of one kind: what turns has another colour, what vanishes goes.

        A thing that does so in one video alone differs in more than what it does.
        """
        acting = {actor.deed for actor in (self.before, self.after) if actor is not None}
        return self.kind != "deed" or not acting & {"turns", "vanishes"}

    @property
    def num_alike(self) -> int:
        """How many things look and do the same in both videos."""
        return sum(actor in self.second for actor in self.first)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th pair of videos of a split."""
    rng = rng_for(split, "video_pairs", index)
    pair = draw_apart(split, rng, _random_pair, describe)
    films = tuple(Video(pair.setting.film(actors)) for actors in (pair.first, pair.second))
    counts = [number_of(len(actors), "thing") for actors in (pair.first, pair.second)]
    return Sample(
        media=films,
        caption=f"Two videos, the first with {counts[0]}, the second with {counts[1]}.",
        detail=describe(pair),
        questions=choose(rng, _questions(pair, rng)),
    )


def describe(pair: VideoPair) -> str:
    """Says what every thing does in the first video, and what differs in the second."""
    deeds = "; ".join(f"{article(a.look.name)}: {pair.setting.deed(a)}" for a in pair.first)
    order = "from top to bottom" if pair.setting.is_wide else "from left to right"
    return f"In the first video, {order}: {deeds}. {_difference(pair)}"


def _difference(pair: VideoPair) -> str:
    before, after = pair.before, pair.after
    if pair.kind == "nothing":
        return "The second video is the same."
    if before is None:
        assert after is not None
        does = pair.setting.deed(after)
        return f"The second video has {article(after.look.name)} as well: {does}."
    if after is None:
        return f"The second video has no {before.look.name}."
    if pair.kind == "colour":
        return f"In the second video, the {before.look.shape} is {after.look.colour}."
    return f"In the second video, of the {before.look.name}: {pair.setting.deed(after)}."


def _random_pair(rng: random.Random) -> VideoPair:
    """Lets things act twice, and changes one of them the second time."""
    setting, looks = random_setting(rng, num_lanes=3), random_looks(rng, 3)
    kind = rng.choice(("deed", "deed", "colour", "thing", "nothing"))
    deeds = COLOURED if kind == "colour" else tuple(DEEDS)
    actors = random_cast(rng, looks, deeds=deeds)
    target, spare = rng.choice(actors), _spare_colours(looks)
    before: Actor | None = target
    after: Actor | None = target
    if kind == "deed":
        while after is not None and setting.deed(after) == setting.deed(target):
            after = give_deed(rng, target.look, lane=target.lane, colours=spare)
    elif kind == "colour":
        look = Look(colour=rng.choice(spare), shape=target.look.shape)
        after = replace(target, look=look, later=look)
    elif kind == "thing":
        before, after = (target, None) if rng.random() < 0.5 else (None, target)
    else:
        before = after = None
    first = tuple(a for a in actors if a is not target or before or kind == "nothing")
    second = tuple(
        a if a is not target or kind == "nothing" else after
        for a in actors
        if a is not target or after or kind == "nothing"
    )
    return VideoPair(
        first=first,
        second=tuple(a for a in second if a is not None),
        kind=kind,
        before=before,
        after=after,
        setting=setting,
    )


def _spare_colours(looks: list[Look]) -> list[str]:
    return [colour for colour in COLOURS if all(look.colour != colour for look in looks)]


def _questions(pair: VideoPair, rng: random.Random) -> Iterator[Question]:
    """Asks what differs."""
    words = ('Which shape differs between the two videos, or "none"?',)
    yield ask(rng, "shape", words, pair.shape)
    if pair.has_one_kind:
        words = (
            "In what do the videos differ: what a thing does, the colour of a thing, which things "
            "there are, or nothing?",
        )
        yield ask(rng, "kind", words, KINDS[pair.kind])
    words = (
        "How many things are alike in both videos and do the same?",
        "How many things look and act the same in both videos?",
    )
    yield ask(rng, "alike", words, str(pair.num_alike))
    words = ("Do both videos show the same?", "Is the second video the same as the first?")
    yield ask(rng, "same", words, yes_or_no(pair.kind == "nothing"))
    before, after = pair.before, pair.after
    if before is None or after is None:
        yield from _ask_where(pair, rng)
    elif pair.kind == "colour":
        words = (f"Which colour has the {before.look.shape} in the second video alone?",)
        yield ask(rng, "recoloured", words, after.look.colour)
    else:
        words = (
            f"What does the {before.look.name} do in the second video, unlike in the first?",
            f"Unlike in the first, what does the {before.look.name} do in the second video?",
        )
        yield ask(rng, "deed", words, pair.setting.deed(after))


def _ask_where(pair: VideoPair, rng: random.Random) -> Iterator[Question]:
    """Asks about the thing that only one video has."""
    thing = pair.before or pair.after
    if thing is None:
        return
    words = ("Which thing is in one of the two videos only?",)
    yield ask(rng, "only_in", words, thing.look.name)
    words = (f"In which of the two videos is the {thing.look.name} missing?",)
    yield ask(rng, "missing", words, "second" if pair.before else "first")
