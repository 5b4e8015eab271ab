"""Solids in a room: what they are, where they stand, and descriptions that fit only one of them.

size      material   colour   shape
large     shiny      red      cube       "the large red cube", "the matte thing", ...
"""

import random
from dataclasses import dataclass

from onevision.synth.kit.shapes import Colour
from onevision.synth.kit.words import plural
from onevision.synth.worlds.rooms.shading import NUM_TURNS

# The attributes of a thing, in the order of a noun phrase.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": ("large", "small"),
    "material": ("shiny", "matte"),
    "colour": ("red", "blue", "green", "yellow", "purple", "cyan", "grey", "brown"),
    "shape": ("cube", "sphere", "cylinder"),
}
TINTS: dict[str, Colour] = {
    "red": (200, 40, 40),
    "blue": (45, 85, 215),
    "green": (40, 150, 55),
    "yellow": (240, 215, 50),
    "purple": (130, 45, 185),
    "cyan": (60, 205, 215),
    "grey": (135, 138, 140),
    "brown": (135, 85, 45),
}
Traits = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Solid:
    """One thing in a room.

    `x` and `bottom` are where it stands, as shares of the picture's width and height;
    `side` is how wide it looks, as a share of the height.
    """

    values: Traits
    x: float
    bottom: float
    side: float
    turn: int

    @property
    def name(self) -> str:
        """Colours and shape: "red cube"."""
        return f"{self.values['colour']} {self.values['shape']}"

    def fits(self, values: Traits) -> bool:
        """Whether it has all these values."""
        return all(self.values[key] == value for key, value in values.items())


Room = tuple[Solid, ...]


def random_room(rng: random.Random, count: int) -> Room:
    """Places things so that they hide little of each other; far ones come first."""
    placed: list[Solid] = []
    for _ in range(12 * count):
        near = rng.random()
        values = {key: rng.choice(options) for key, options in ATTRIBUTES.items()}
        side = (0.30 if values["size"] == "large" else 0.165) * (0.78 + 0.22 * near)
        solid = Solid(
            values=values,
            x=rng.uniform(0.13, 0.87),
            bottom=0.50 + 0.44 * near,
            side=side,
            turn=rng.randrange(NUM_TURNS),
        )
        if all(_apart(solid, other) for other in placed):
            placed.append(solid)
        if len(placed) == count:
            break
    return tuple(sorted(placed, key=lambda solid: solid.bottom))


def _apart(a: Solid, b: Solid) -> bool:
    """Whether the nearer of two things leaves most of the other visible."""
    width = (a.side + b.side) / 2 - 1.2 * abs(a.x - b.x)
    height = min(a.bottom, b.bottom) - max(a.bottom - a.side, b.bottom - b.side)
    on_floor = abs(a.bottom - b.bottom) < 0.4 * (a.side + b.side) / 2
    hidden = max(0.0, width) * max(0.0, height)
    return hidden < 0.1 * min(a.side, b.side) ** 2 and not (on_floor and width > 0)


def noun_phrase(values: Traits, *, many: bool = False) -> str:
    """Returns values as a noun phrase: "large red cube", "shiny things"."""
    noun = values.get("shape", "thing")
    before = [values[key] for key in ATTRIBUTES if key in values and key != "shape"]
    return " ".join([*before, plural(noun) if many else noun])


def single_out(room: Room, rng: random.Random, *, without: str = "") -> tuple[Solid, str] | None:
    """Chooses a thing and a description that fits only it, without one of its attributes."""
    for _ in range(8):
        solid = rng.choice(room)
        keys = [key for key in ATTRIBUTES if key != without]
        said = rng.sample(keys, rng.randint(1, 3))
        values = {key: solid.values[key] for key in said}
        if sum(other.fits(values) for other in room) == 1:
            return solid, f"the {noun_phrase(values)}"
    return None
