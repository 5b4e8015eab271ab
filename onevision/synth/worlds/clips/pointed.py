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
from onevision.synth.kit.shapes import COLOURS, SHAPES, Colour, Look
from onevision.synth.kit.words import article, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

FRAME_COUNTS = (8, 8, 10, 12)
# What a thing may do, in words; moving things move along their lane.
DEEDS = {
    "stays": "it stays where it is",
    "moves": "it moves {}",
    "stops": "it moves {} and stops halfway",
    "returns": "it moves {} and comes back",
    "turns": "it becomes {}",
    "vanishes": "it disappears",
}
MOVING = ("moves", "stops", "returns")
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
# Where on its lane a thing may be, by whether lanes run from left to right.
THIRDS = {True: ("left", "center", "right"), False: ("top", "center", "bottom")}
# How questions refer to the pointed thing, for each kind of mark.
REFERENCES = {
    "arrow": "the thing marked by the arrow",
    "circle": "the thing in the drawn circle",
    "box": "the thing in the box",
}


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A thing on its own lane: what it looks like, where it starts, what it does."""

    look: Look
    lane: float
    start: float
    deed: str
    # Where it ends, if it moves; what it looks like then, if it turns.
    end: float
    later: Look

    def at(self, share: float) -> float:
        """Returns its position on its lane when `share` of the time has passed."""
        if self.deed == "stops":
            share = min(1.0, 2 * share)
        elif self.deed == "returns":
            share = 1 - abs(1 - 2 * share)
        return self.start + (self.end - self.start) * share

    def look_at(self, share: float) -> Look | None:
        """Returns what it looks like then, or None once it is gone."""
        if share < 0.5:
            return self.look
        return None if self.deed == "vanishes" else self.later


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
        if self.is_wide:
            return "right" if actor.end > actor.start else "left"
        return "down" if actor.end > actor.start else "up"

    def deed(self, actor: Actor) -> str:
        """What a thing does, in words."""
        filling = self.heading(actor) if actor.deed in MOVING else actor.later.colour
        return DEEDS[actor.deed].format(filling)


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th clip of a split."""
    rng = rng_for(split, "pointed", index)
    clip = _random_clip(rng)
    side = rng.randint(110, 160)
    frames = [_frame(clip, frame, side=side) for frame in range(clip.num_frames)]
    target = clip.target
    mark = f"{clip.mark_colour} {clip.mark}"
    caption = (
        f"A clip with {number_of(len(clip.actors), 'thing')}; "
        f"{article(mark)} points out the {target.look.name}."
    )
    return Sample(
        media=(Video(frames),),
        caption=caption,
        detail=_detail(clip, caption),
        questions=choose(rng, _questions(clip, rng)),
    )


def _random_clip(rng: random.Random) -> PointedClip:
    """Puts things on lanes and chooses one of them; others may have the same name."""
    num_frames, count = rng.choice(FRAME_COUNTS), rng.randint(3, 4)
    colours, shapes = rng.sample(list(COLOURS), 4), rng.sample(list(SHAPES), 3)
    actors = tuple(_actor(rng, colours, shapes, lane=(n + 0.5) / count) for n in range(count))
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


def _actor(rng: random.Random, colours: list[str], shapes: list[str], *, lane: float) -> Actor:
    """Chooses a look and a deed."""
    look = Look(colour=rng.choice(colours), shape=rng.choice(shapes))
    deed = rng.choice(list(DEEDS))
    if deed in MOVING:
        start, end = rng.sample((0.15, 0.85), 2)
        end = 0.5 if deed == "stops" else end
    else:
        start = end = rng.choice((0.2, 0.5, 0.8))
    other = rng.choice([colour for colour in colours if colour != look.colour])
    later = Look(colour=other, shape=look.shape) if deed == "turns" else look
    return Actor(look=look, lane=lane, start=start, end=end, deed=deed, later=later)


def _frame(clip: PointedClip, frame: int, *, side: int) -> PillowImage:
    """Draws one frame, with the mark if it is there."""
    picture = PIL.new("RGB", (side, side), GROUNDS[clip.ground])
    share = frame / (clip.num_frames - 1)
    radius = 0.36 * side / len(clip.actors)
    for actor in clip.actors:
        x, y = actor.at(share) * side, actor.lane * side
        if not clip.is_wide:
            x, y = y, x
        look = actor.look_at(share)
        if look is not None:
            look.stamp(picture, x=x, y=y, radius=radius)
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


def _detail(clip: PointedClip, caption: str) -> str:
    """Describes what every thing does, in the order of the lanes."""
    order = "From top to bottom" if clip.is_wide else "From left to right"
    deeds = [f"{article(a.look.name)}: {clip.deed(a)}" for a in clip.actors]
    until = "to the end" if clip.marked_frames.stop == clip.num_frames else "at first only"
    return (
        f"{caption} {order}: {'; '.join(deeds)}. "
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
    yield from _ask_around(clip, rng)


def _ask_around(clip: PointedClip, rng: random.Random) -> Iterator[Question]:
    """Asks about the other things, as seen from the pointed one."""
    target, reference = clip.target, clip.reference
    others = [a.look for a in clip.actors if a is not target]
    for what, alike in (
        ("colour", [look for look in others if look.colour == target.look.colour]),
        ("shape", [look for look in others if look.shape == target.look.shape]),
    ):
        words = (f"At the beginning, how many other things have the {what} of {reference}?",)
        yield ask(rng, f"same_{what}", words, str(len(alike)))
    place = clip.actors.index(target)
    lane, before, after = (
        ("row", "above", "below") if clip.is_wide else ("column", "left of", "right of")
    )
    for side, n in ((before, place - 1), (after, place + 1)):
        if 0 <= n < len(clip.actors):
            where = f"in the {lane} next to {reference}, directly {side} it"
            words = (f"Which thing is {where}, at the beginning?",)
            yield ask(rng, "neighbour", words, clip.actors[n].look.name)
    words = ("How many things are there at the beginning?",)
    yield ask(rng, "count", words, str(len(clip.actors)))
    words = ("How many things move?", "How many things change their place?")
    yield ask(rng, "movers", words, str(sum(a.deed in MOVING for a in clip.actors)))
