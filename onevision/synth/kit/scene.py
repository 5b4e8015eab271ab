"""Scenes: coloured things in the cells of a 3 x 3 grid on a plain ground -> a picture of them.

+-----------------------+     A thing has a colour, a shape, a size and one of nine places.
|  ●           ★        |     Places are the cells of a 3 x 3 grid: "top left", "center", ...
|        ▲              |     Writing, if any, takes a whole row of cells.
|  42                   |
+-----------------------+
"""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

from onevision.synth.kit.shapes import COLOURS, SHAPES, Colour, lay_shape, shift_tint
from onevision.synth.kit.words import split

GROUNDS: dict[str, Colour] = {
    "white": (250, 250, 250),
    "grey": (165, 165, 165),
    "black": (15, 15, 15),
}
COLUMNS, ROWS = ("left", "center", "right"), ("top", "center", "bottom")
# Column and row of each place, in reading order.
CELLS = tuple((col, row) for row in range(3) for col in range(3))
NUMBERS = tuple(str(n) for n in range(100))
WORDS = split("""
    cat, dog, sun, cup, hat, map, key, box, fish, bird, tree, book, ship, lamp, door, milk, rain,
    snow, wolf, bear, king, gold, tea, bus, car, pen, bag, egg, leg, arm, ice, oil, sea, sky, fox,
    cow, pig, hen, ant, bee
""")
# The height of writing, as a share of the shorter side.
WRITING_HEIGHT = 0.27
# Scenes are drawn this much larger, then averaged down, for smooth edges.
SUPERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One coloured shape.

    `x`, `y` are its centre and `radius` its half width, as shares of the picture's width, height
    and shorter side.
    """

    colour: str
    shape: str
    size: str
    col: int
    row: int
    x: float
    y: float
    radius: float
    tint: Colour

    @property
    def name(self) -> str:
        """Colours and shape: "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def place(self) -> str:
        """The cell it is in: "top left"."""
        return place_name(self.col, self.row)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A number or a word in one row of a picture."""

    text: str
    row: int

    @property
    def kind(self) -> str:
        """What the text is called: "number" or "word"."""
        return "number" if self.text.isdigit() else "word"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All there is in one picture, the things in reading order."""

    ground: str
    things: tuple[Thing, ...]
    writing: Writing | None = None

    def having(self, *, colour: str | None = None, shape: str | None = None) -> list[Thing]:
        """Returns the things of a colour, a shape, or both."""
        return [
            t
            for t in self.things
            if (colour is None or t.colour == colour) and (shape is None or t.shape == shape)
        ]

    def unique(self) -> list[Thing]:
        """Returns the things that no other matches in both colour and shape."""
        return [t for t in self.things if len(self.having(colour=t.colour, shape=t.shape)) == 1]


def place_name(col: int, row: int) -> str:
    """Names a cell of the 3 x 3 grid: "center", "left", "top right"."""
    words = [ROWS[row]] if row != 1 else []
    words += [COLUMNS[col]] if col != 1 else []
    return " ".join(words) or "center"


def random_scene(
    rng: random.Random, *, num_things: int, with_writing: bool = False, distinct: bool = False
) -> Scene:
    """Generates a scene; `distinct` things differ pairwise in colour and in shape."""
    writing = None
    if with_writing:
        words = NUMBERS if rng.random() < 0.5 else WORDS
        writing = Writing(text=rng.choice(words), row=rng.randrange(3))
    free = [cell for cell in CELLS if writing is None or cell[1] != writing.row]
    cells = sorted(rng.sample(free, num_things), key=CELLS.index)
    if distinct:
        colours = rng.sample(list(COLOURS), num_things)
        shapes = rng.sample(SHAPES, num_things)
    else:
        colours = rng.choices(list(COLOURS), k=num_things)
        shapes = rng.choices(SHAPES, k=num_things)
    things = tuple(
        random_thing(rng, colour=colour, shape=shape, col=col, row=row)
        for colour, shape, (col, row) in zip(colours, shapes, cells, strict=True)
    )
    return Scene(ground=rng.choice(list(GROUNDS)), things=things, writing=writing)


def random_thing(rng: random.Random, *, colour: str, shape: str, col: int, row: int) -> Thing:
    """Generates a thing in a cell, of random size, shifted a little in place and tint."""
    size = rng.choice(("small", "large"))
    radius = rng.uniform(0.085, 0.100) if size == "small" else rng.uniform(0.135, 0.155)
    shift = rng.randint(-14, 14)
    return Thing(
        colour=colour,
        shape=shape,
        size=size,
        col=col,
        row=row,
        x=(col + 0.5 + rng.uniform(-0.05, 0.05)) / 3,
        y=(row + 0.5 + rng.uniform(-0.05, 0.05)) / 3,
        radius=radius,
        tint=shift_tint(COLOURS[colour], shift),
    )


def draw_scene(
    scene: Scene, *, width: int = 98, height: int = 98, writing_height: float = WRITING_HEIGHT
) -> PillowImage:
    """Draws a scene as an RGB image of `width` x `height` pixels.

    `writing_height` is the size of its letters, as a share of the shorter side.
    """
    scale = SUPERSAMPLING
    image = Image.new("RGB", (width * scale, height * scale), GROUNDS[scene.ground])
    for thing in scene.things:
        radius = thing.radius * min(width, height) * scale
        centre = (thing.x * width * scale, thing.y * height * scale)
        lay_shape(image, thing.shape, centre, radius, tint=thing.tint)
    pen = ImageDraw.Draw(image)
    if scene.writing is not None:
        font = ImageFont.load_default(size=writing_height * min(width, height) * scale)
        middle = (width * scale / 2, height * scale * (scene.writing.row + 0.5) / 3)
        ink = ink_on(scene.ground)
        pen.text(middle, scene.writing.text, font=font, anchor="mm", fill=ink)
    return image.resize((width, height), Image.Resampling.BOX)


def ink_on(ground: str) -> Colour:
    """Returns the colour of writing on a ground."""
    return (240, 240, 240) if ground == "black" else (20, 20, 20)
