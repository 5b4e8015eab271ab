"""Clips in which an arrow, a circle or a box points out one thing.

frame 1     frame 4     frame 8      What is the thing in the box?         red star
+---------+ +---------+ +---------+  Where is the thing in the box last?   center
|[*]      | |   [*]   | |   [*]   |     left, center or right?            center
|      o  | |   o     | | o       |  What does the thing in the box do?
+---------+ +---------+ +---------+                      it moves right and stops halfway
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image as PIL
from PIL import ImageDraw
from PIL.Image import Image as PillowImage

from onevision.conversation import Video
from onevision.synth.kit.questions import choose
from onevision.synth.kit.scene import GROUNDS
from onevision.synth.kit.shapes import COLOURS, SHAPES, Colour
from onevision.synth.kit.splits import is_leaked
from onevision.synth.kit.words import article, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for
from onevision.synth.worlds.clips.actors import (
    FRAME_COUNTS,
    MOVING,
    THIRDS,
    Actor,
    random_actor,
)

# The colours of marks; the mark of a clip has a colour that no thing has.
MARKS: dict[str, Colour] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "red": (235, 20, 20),
    "yellow": (255, 225, 0),
    "blue": (20, 70, 255),
    "green": (0, 170, 50),
}
# The mark colours that do not stand out from a ground.
UNSEEN_ON = {"white": {"white", "yellow"}, "grey": set[str](), "black": {"black"}}
# How questions refer to the pointed thing, for each kind of mark.
REFERENCES = {
    "arrow": "the thing marked by the arrow",
    "circle": "the thing in the drawn circle",
    "box": "the thing in the box",
}


@dataclass(frozen=True, kw_only=True)
class PointedClip:
    """Things, and which of them is pointed out, how and in which frames."""

    actors: tuple[Actor, ...]
    target: Actor
    mark: str
    mark_colour: str
    marked_frames: range
    num_frames: int
    ground: str
    # Lanes run from left to right, or from top to bottom.
    is_wide: bool

    @property
    def reference(self) -> str:
        """What questions call the pointed thing."""
        return REFERENCES[self.mark]

    def heading(self, actor: Actor) -> str:
        """The direction in which a moving thing sets out."""
        return actor.heading(is_wide=self.is_wide)

    def deed(self, actor: Actor) -> str:
        """What a thing does, in words."""
        return actor.does(is_wide=self.is_wide)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th clip of a split."""
    rng = rng_for(split, "pointed", index)
    clip = random_clip(rng)
    side = rng.randint(110, 160)
    while is_leaked(split, _describe(clip)):
        clip = random_clip(rng)
    caption = _caption(clip)
    frames = [draw_frame(clip, frame, side=side) for frame in range(clip.num_frames)]
    return Sample(
        media=(Video(frames),),
        caption=caption,
        detail=f"{caption} {_describe(clip)}",
        questions=choose(rng, _questions(clip, rng)),
    )


def random_clip(rng: random.Random) -> PointedClip:
    """Puts things on lanes and chooses one of them; others may have the same name."""
    num_frames, count = rng.choice(FRAME_COUNTS), rng.randint(3, 4)
    colours, shapes = rng.sample(list(COLOURS), 4), rng.sample(list(SHAPES), 3)
    actors = tuple(random_actor(rng, colours, shapes, lane=(n + 0.5) / count) for n in range(count))
    ground = rng.choice(list(GROUNDS))
    seen = {c for a in actors for c in (a.look.colour, a.later.colour)} | UNSEEN_ON[ground]
    looks = {a.look.shape for a in actors}
    kinds = [k for k in REFERENCES if k != "circle" or not looks & {"ring", "circle"}]
    first = rng.choice((0, 0, 0, 1))
    last = rng.choice((num_frames, num_frames, num_frames // 2, 3))
    return PointedClip(
        actors=actors,
        target=rng.choice(actors),
        mark=rng.choice([k for k in kinds if k != "box" or "square" not in looks]),
        mark_colour=rng.choice([c for c in MARKS if c not in seen]),
        marked_frames=range(first, last),
        num_frames=num_frames,
        ground=ground,
        is_wide=rng.random() < 0.6,
    )


def draw_frame(clip: PointedClip, frame: int, *, side: int) -> PillowImage:
    """Draws one frame, with the mark if it is there."""
    picture = PIL.new("RGB", (side, side), GROUNDS[clip.ground])
    share = frame / (clip.num_frames - 1)
    radius = 0.36 * side / len(clip.actors)
    for actor in clip.actors:
        x, y = actor.spot(share, side=side, is_wide=clip.is_wide)
        actor.draw(picture, share, radius=radius, is_wide=clip.is_wide)
        if actor is clip.target and frame in clip.marked_frames:
            _mark(picture, clip, x, y, radius)
    return picture


def _mark(picture: PillowImage, clip: PointedClip, x: float, y: float, radius: float) -> None:
    """Draws a circle or a box around a place, or an arrow to it from the middle of its lane."""
    pen, tint = ImageDraw.Draw(picture), MARKS[clip.mark_colour]
    reach = 1.38 * radius
    box = (x - reach, y - reach, x + reach, y + reach)
    if clip.mark == "circle":
        pen.ellipse(box, outline=tint, width=3)
    elif clip.mark == "box":
        pen.rectangle(box, outline=tint, width=3)
    else:
        along = x if clip.is_wide else y
        sign = 1 if along < picture.width / 2 else -1
        dx, dy = (sign, 0) if clip.is_wide else (0, sign)
        _arrow(pen, (x + dx * reach, y + dy * reach), dx, dy, picture.width, tint)


def _arrow(
    pen: ImageDraw.ImageDraw, tip: tuple[float, float], dx: int, dy: int, side: int, tint: Colour
) -> None:
    """Draws an arrow that ends at `tip`, coming from the direction `dx`, `dy`."""
    (x, y), length, head = tip, 0.22 * side, 0.075 * side
    pen.line((x + dx * head, y + dy * head, x + dx * length, y + dy * length), fill=tint, width=4)
    angles = [math.atan2(dy, dx) + turn for turn in (-0.5, 0.5)]
    barbs = [(x + 1.3 * head * math.cos(a), y + 1.3 * head * math.sin(a)) for a in angles]
    pen.polygon([tip, *barbs], fill=tint)


def _caption(clip: PointedClip) -> str:
    """Names the thing that is pointed out."""
    mark = f"{clip.mark_colour} {clip.mark}"
    return (
        f"A clip with {number_of(len(clip.actors), 'thing')}; "
        f"{article(mark)} points out the {clip.target.look.name}."
    )


def _describe(clip: PointedClip) -> str:
    """Describes what every thing does, in the order of the lanes."""
    order = "From top to bottom" if clip.is_wide else "From left to right"
    deeds = [f"{article(a.look.name)}: {clip.deed(a)}" for a in clip.actors]
    until = "to the end" if clip.marked_frames.stop == clip.num_frames else "at first only"
    return (
        f"{order}: {'; '.join(deeds)}. "
        f"The {clip.mark} is on the {clip.target.look.name} {until}: {clip.deed(clip.target)}."
    )


def _questions(clip: PointedClip, rng: random.Random) -> Iterator[Question]:
    """Asks what the pointed thing is, what it does and what is around it."""
    target, reference = clip.target, clip.reference
    words = (f"What is {reference}?", f"Name {reference}, as it is at the beginning.")
    yield ask(rng, "what", words, target.look.name)
    words = (f"What shape is {reference}?", f"Which shape has {reference}?")
    yield ask(rng, "shape", words, target.look.shape)
    words = (f"What colour is {reference} at the beginning?",)
    yield ask(rng, "colour", words, target.look.colour)
    words = (f"What does {reference} do?", f"What happens to {reference}?")
    yield ask(rng, "deed", words, clip.deed(target))
    if target.deed in MOVING:
        words = (
            f"In which direction does {reference} set out?",
            f"Which way does {reference} go first?",
        )
        yield ask(rng, "direction", words, clip.heading(target))
    if target.deed != "vanishes":
        one, two, three = thirds = THIRDS[clip.is_wide]
        words = (
            f"Is {reference} at the {one}, in the {two} or at the {three} at the end?",
            f"In which third of the picture is {reference} last: {one}, {two} or {three}?",
        )
        yield ask(rng, "end", words, thirds[min(2, int(3 * target.at(1)))])
        words = (f"What colour is {reference} at the end?",)
        yield ask(rng, "colour_at_end", words, target.later.colour)
    words = (f"What colour is the {clip.mark} that was drawn?",)
    yield ask(rng, "mark_colour", words, clip.mark_colour)
    words = ("What has been drawn to point out one thing: an arrow, a circle or a box?",)
    yield ask(rng, "mark", words, article(clip.mark))
    until_end = clip.marked_frames.stop == clip.num_frames
    words = (f"Is the {clip.mark} there until the end?",)
    yield ask(rng, "until_end", words, yes_or_no(until_end))
    words = (f"Does {reference} change its place?", f"Does {reference} move?")
    yield ask(rng, "moves", words, yes_or_no(target.deed in MOVING))
    yield from ask_around(clip, rng)
    words = ("How many things move?", "How many things change their place?")
    yield ask(rng, "movers", words, str(sum(a.deed in MOVING for a in clip.actors)))


def ask_around(
    clip: PointedClip, rng: random.Random, *, is_still: bool = False
) -> Iterator[Question]:
    """Asks about the other things, as seen from the pointed one; a still has no beginning."""
    before, after = ("", "") if is_still else ("At the beginning, ", " at the beginning")
    target, reference = clip.target, clip.reference
    others = [a.look for a in clip.actors if a is not target]
    for what, alike in (
        ("colour", [look for look in others if look.colour == target.look.colour]),
        ("shape", [look for look in others if look.shape == target.look.shape]),
    ):
        asked = f"{before}how many other things have the {what} of {reference}?"
        words = (asked[0].upper() + asked[1:],)
        yield ask(rng, f"same_{what}", words, str(len(alike)))
    place = clip.actors.index(target)
    lane, one, other = (
        ("row", "above", "below") if clip.is_wide else ("column", "left of", "right of")
    )
    for side, n in ((one, place - 1), (other, place + 1)):
        if 0 <= n < len(clip.actors):
            where = f"in the {lane} next to {reference}, directly {side} it"
            words = (f"Which thing is {where}{after and ',' + after}?",)
            yield ask(rng, "neighbour", words, clip.actors[n].look.name)
    words = (f"How many things are there{after}?",)
    yield ask(rng, "count", words, str(len(clip.actors)))
