"""Things on lanes of their own that stay, move, stop, come back, change colour or disappear.

frame 1     frame 4     frame 8
| *       | |    *    | |       * |   the star: it moves right
|    o    | |    o    | |    @    |   the circle: it becomes blue
|       ^ | |       ^ | |         |   the triangle: it disappears
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image
from PIL.Image import Image as PillowImage

from onevision.synth.kit.scene import GROUNDS
from onevision.synth.kit.shapes import COLOURS, Colour, Look

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
# Where on its lane a thing may be, by whether lanes run from left to right.
THIRDS = {True: ("left", "center", "right"), False: ("top", "center", "bottom")}


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

    def heading(self, *, is_wide: bool) -> str:
        """The direction in which it sets out, if it moves."""
        if is_wide:
            return "right" if self.end > self.start else "left"
        return "down" if self.end > self.start else "up"

    def does(self, *, is_wide: bool) -> str:
        """What it does, in words."""
        filling = self.heading(is_wide=is_wide) if self.deed in MOVING else self.later.colour
        return DEEDS[self.deed].format(filling)

    def spot(self, share: float, *, side: int, is_wide: bool) -> tuple[float, float]:
        """Returns where it is in a square picture, in pixels."""
        along, across = self.at(share) * side, self.lane * side
        return (along, across) if is_wide else (across, along)

    def draw(self, picture: PillowImage, share: float, *, radius: float, is_wide: bool) -> None:
        """Draws it in a square picture, if it is still there."""
        look = self.look_at(share)
        if look is not None:
            x, y = self.spot(share, side=picture.width, is_wide=is_wide)
            look.stamp(picture, x=x, y=y, radius=radius)


def random_actor(
    rng: random.Random, colours: Sequence[str], shapes: Sequence[str], *, lane: float
) -> Actor:
    """Chooses a look and a deed."""
    look = Look(colour=rng.choice(colours), shape=rng.choice(shapes))
    return give_deed(rng, look, lane=lane, colours=colours)


def give_deed(
    rng: random.Random,
    look: Look,
    *,
    lane: float,
    colours: Sequence[str],
    deeds: Sequence[str] = tuple(DEEDS),
) -> Actor:
    """Lets a thing do something; `colours` are those that it may become."""
    deed = rng.choice(deeds)
    if deed in MOVING:
        start, end = rng.sample((0.15, 0.85), 2)
        end = 0.5 if deed == "stops" else end
    else:
        start = end = rng.choice((0.2, 0.5, 0.8))
    other = rng.choice([colour for colour in colours if colour != look.colour])
    later = Look(colour=other, shape=look.shape) if deed == "turns" else look
    return Actor(look=look, lane=lane, start=start, end=end, deed=deed, later=later)


def is_only(deed: str, deeds: Iterable[str]) -> bool:
    """Whether what is said is true of one thing: of one that stops halfway, too, it moves right."""
    return sum(one.startswith(deed) for one in deeds) == 1


def random_cast(
    rng: random.Random, looks: Sequence[Look], *, deeds: Sequence[str] = tuple(DEEDS)
) -> tuple[Actor, ...]:
    """Puts things on lanes in their order; what changes colour becomes one that nothing has."""
    spare = [colour for colour in COLOURS if all(look.colour != colour for look in looks)]
    return tuple(
        give_deed(rng, look, lane=(n + 0.5) / len(looks), colours=spare, deeds=deeds)
        for n, look in enumerate(looks)
    )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where things act: the picture's side and ground, and how lanes run."""

    side: int
    ground: Colour
    num_frames: int
    # Lanes run from left to right, or from top to bottom.
    is_wide: bool
    # How many lanes there are, by which things have their size.
    num_lanes: int

    def draw(self, actors: Sequence[Actor], share: float) -> PillowImage:
        """Draws all things when `share` of the time has passed."""
        picture = Image.new("RGB", (self.side, self.side), self.ground)
        radius = min(0.16, 0.36 / self.num_lanes) * self.side
        for actor in actors:
            actor.draw(picture, share, radius=radius, is_wide=self.is_wide)
        return picture

    def film(self, actors: Sequence[Actor]) -> list[PillowImage]:
        """Draws every frame."""
        return [self.draw(actors, n / (self.num_frames - 1)) for n in range(self.num_frames)]

    def deed(self, actor: Actor) -> str:
        """What a thing does, in words."""
        return actor.does(is_wide=self.is_wide)


def random_setting(rng: random.Random, *, num_lanes: int) -> Setting:
    """Chooses where things act."""
    return Setting(
        side=rng.randint(98, 120),
        ground=GROUNDS[rng.choice(list(GROUNDS))],
        num_frames=rng.choice(FRAME_COUNTS),
        is_wide=rng.random() < 0.6,
        num_lanes=num_lanes,
    )
