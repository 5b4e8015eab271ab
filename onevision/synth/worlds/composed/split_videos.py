"""One video composed of two or four smaller ones, each with a thing of its own.

+-------+-------+    What does the thing in the top left part do?     it moves right
| *  -> |   o   |    In which part does this happen: it disappears?   bottom right
+-------+-------+    Which part shows the same as the top left part at the beginning?
|   ^   | # gone|    In how many parts does a thing move?             1
+-------+-------+
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.scene import GROUNDS
from onevision.synth.kit.shapes import Colour, random_looks
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, join, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import (
    FRAME_COUNTS,
    MOVING,
    Actor,
    Setting,
    is_only,
    random_cast,
)

PLACES = {2: ("left", "right"), 4: ("top left", "top right", "bottom left", "bottom right")}
GAP = 4
LINE: Colour = (150, 40, 60)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A smaller video: its place in the whole, its thing, and where that acts."""

    place: str
    actor: Actor
    setting: Setting

    @property
    def deed(self) -> str:
        """What its thing does, in words."""
        return self.setting.deed(self.actor)


Parts = tuple[Part, ...]


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th composed video of a split."""
    rng = rng_for(split, "split_videos", index)
    parts = draw_apart(split, rng, _random_parts, describe)
    names = join(article(part.actor.look.name) for part in parts)
    return Sample(
        media=(Video(_frames(parts)),),
        caption=f"A video of {number_of(len(parts), 'part')}; they show {names}.",
        detail=describe(parts),
        questions=choose(rng, _questions(parts, rng)),
    )


def describe(parts: Parts) -> str:
    """Says what happens in every part."""
    told = "; ".join(f"{p.place}, {article(p.actor.look.name)}: {p.deed}" for p in parts)
    return f"A video of {number_of(len(parts), 'part')}: {told}."


def _random_parts(rng: random.Random) -> Parts:
    """Chooses what happens in each part; sometimes two begin with the same thing."""
    count = rng.choice((2, 4, 4))
    looks = random_looks(rng, count)
    if count == 4 and rng.random() < 0.5:
        here, there = rng.sample(range(count), 2)
        looks[here] = looks[there]
    side, num_frames = rng.randint(64, 80), rng.choice(FRAME_COUNTS)
    grounds = [GROUNDS[rng.choice(list(GROUNDS))] for _ in looks]
    return tuple(
        Part(
            place=place,
            actor=random_cast(rng, [look])[0],
            setting=Setting(
                side=side,
                ground=ground,
                num_frames=num_frames,
                is_wide=rng.random() < 0.5,
                num_lanes=2,
            ),
        )
        for place, look, ground in zip(PLACES[count], looks, grounds, strict=True)
    )


def _frames(parts: Parts) -> list[PillowImage]:
    """Puts what happens at the same time into one picture."""
    side, films = parts[0].setting.side, [part.setting.film([part.actor]) for part in parts]
    rows = len(parts) // 2
    frames = []
    for pictures in zip(*films, strict=True):
        canvas = PIL.new("RGB", (2 * side + GAP, rows * (side + GAP) - GAP), LINE)
        for n, picture in enumerate(pictures):
            canvas.paste(picture, ((n % 2) * (side + GAP), (n // 2) * (side + GAP)))
        frames.append(canvas)
    return frames


def _questions(parts: Parts, rng: random.Random) -> Iterator[Question]:
    """Asks what happens where."""
    for part in parts:
        words = (
            f"What does the thing in the {part.place} part do?",
            f"What happens to the thing in the {part.place} part of the video?",
        )
        yield ask(rng, "deed", words, part.deed)
    deeds = [part.deed for part in parts]
    looks = Counter(part.actor.look for part in parts)
    for part in parts:
        if is_only(part.deed, deeds):
            words = (f"In which part of the video does this happen: {part.deed}?",)
            yield ask(rng, "part", words, part.place)
            words = (f"Of which thing of the video is this true: {part.deed}?",)
            yield ask(rng, "thing", words, part.actor.look.name)
        others = [p for p in parts if p is not part and p.actor.look == part.actor.look]
        if others and looks[part.actor.look] == 2:
            words = (f"Which other part begins with the same thing as the {part.place} part?",)
            yield ask(rng, "same_thing", words, others[0].place)
    words = ("In how many parts of the video does a thing move?",)
    yield ask(rng, "movers", words, str(sum(p.actor.deed in MOVING for p in parts)))
    words = ("How many things can be seen at the end, in all parts together?",)
    left = sum(part.actor.deed != "vanishes" for part in parts)
    yield ask(rng, "left", words, str(left))
    one, other = rng.sample(parts, 2)
    words = (f"Do the things in the {one.place} and the {other.place} part do the same?",)
    yield ask(rng, "alike", words, yes_or_no(one.deed == other.deed))
