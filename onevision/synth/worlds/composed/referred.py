"""A picture of one thing, and a video in which that thing does something among others.

 picture     frame 1     frame 8     What does the thing in the picture do in the video?
+-------+   | *       | |       * |                           it moves right
|   *   |   |    o    | |    o    |  Where in the video is the thing in the picture last?
+-------+   |       ^ | |       ^ |                           right
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image as PIL
from PIL.Image import Image as PillowImage

from onevision.conversation import Image, Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.scene import GROUNDS
from onevision.synth.kit.shapes import COLOURS, SHAPES, Colour, Look
from onevision.synth.kit.splits import draw_apart
from onevision.synth.kit.words import article, join
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import (
    MOVING,
    THIRDS,
    Actor,
    Setting,
    random_cast,
    random_setting,
)

NOT_THERE = "it is not in the video"
THING = "the thing in the picture"


@dataclass(frozen=True, kw_only=True)
class Referral:
    """The look in the picture, and the things of the video, one of which has it, or none."""

    look: Look
    actors: tuple[Actor, ...]
    setting: Setting
    ground: Colour

    @property
    def target(self) -> Actor | None:
        """The thing of the video that the picture shows."""
        return next((one for one in self.actors if one.look == self.look), None)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th picture and video of a split."""
    rng = rng_for(split, "referred", index)
    one = draw_apart(split, rng, _random_referral, describe)
    return Sample(
        media=(Image(_picture(one, rng)), Video(one.setting.film(one.actors))),
        caption=f"A picture of {article(one.look.name)}, and a video of {_names(one)}.",
        detail=describe(one),
        questions=choose(rng, _questions(one, rng)),
    )


def describe(one: Referral) -> str:
    """Says what the picture shows, and what every thing of the video does."""
    deeds = "; ".join(f"{article(a.look.name)}: {one.setting.deed(a)}" for a in one.actors)
    order = "from top to bottom" if one.setting.is_wide else "from left to right"
    return f"The picture shows {article(one.look.name)}. In the video, {order}: {deeds}."


def _names(one: Referral) -> str:
    return join(article(actor.look.name) for actor in one.actors)


def _random_referral(rng: random.Random) -> Referral:
    """Puts the thing among others that share its colour or its shape; sometimes it is not there."""
    colours, shapes = rng.sample(list(COLOURS), 3), rng.sample(SHAPES, 3)
    every = [Look(colour=colour, shape=shape) for colour in colours for shape in shapes]
    look, *others = rng.sample(every, 9)
    near = [one for one in others if look.colour == one.colour or look.shape == one.shape]
    count, shown = rng.randint(3, 4), rng.sample(near, 2)
    shown += [one for one in others if one not in shown][: count - 2]
    if rng.random() < 0.85:
        shown[-1] = look
    rng.shuffle(shown)
    return Referral(
        look=look,
        actors=random_cast(rng, shown),
        setting=random_setting(rng, num_lanes=count),
        ground=GROUNDS[rng.choice(list(GROUNDS))],
    )


def _picture(one: Referral, rng: random.Random) -> PillowImage:
    """Draws the thing by itself, larger than in the video."""
    side = rng.randint(98, 120)
    picture = PIL.new("RGB", (side, side), one.ground)
    one.look.stamp(
        picture,
        x=side * rng.uniform(0.4, 0.6),
        y=side * rng.uniform(0.4, 0.6),
        radius=side * rng.uniform(0.16, 0.26),
    )
    return picture


def _questions(one: Referral, rng: random.Random) -> Iterator[Question]:
    """Asks what the video shows of the thing in the picture."""
    target, others = one.target, [a.look for a in one.actors if a.look != one.look]
    words = (
        f'What does {THING} do in the video, or is the answer "{NOT_THERE}"?',
        f'What happens to {THING} in the video, or is the answer "{NOT_THERE}"?',
    )
    yield ask(rng, "deed", words, NOT_THERE if target is None else one.setting.deed(target))
    for what, alike in (
        ("colour", [look for look in others if look.colour == one.look.colour]),
        ("shape", [look for look in others if look.shape == one.look.shape]),
    ):
        words = (
            f"At the beginning, how many other things of the video have the {what} of {THING}?",
        )
        yield ask(rng, f"same_{what}", words, str(len(alike)))
    words = (f"Is {THING} in the video, too?",)
    yield ask(rng, "present", words, "no" if target is None else "yes")
    if target is None:
        return
    if target.deed in MOVING:
        words = (f"In the video, in which direction does {THING} set out?",)
        yield ask(rng, "direction", words, target.heading(is_wide=one.setting.is_wide))
    if target.deed != "vanishes":
        thirds = THIRDS[one.setting.is_wide]
        words = (
            f"Where in the video is {THING} last: {thirds[0]}, {thirds[1]} or {thirds[2]}?",
            f"At the end of the video, is {THING} at the {thirds[0]}, in the {thirds[1]} or at "
            f"the {thirds[2]}?",
        )
        yield ask(rng, "end", words, thirds[min(2, int(3 * target.at(1)))])
        words = (f"Which colour has {THING} at the end of the video?",)
        yield ask(rng, "colour_at_end", words, target.later.colour)
