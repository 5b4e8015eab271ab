"""Clips of a camera that pans over a wide scene, or zooms in or out.

the scene     +-----------------------------------------+
              |   *         o          ^         #      |
              +-----------------------------------------+
the frames    [ 1  ]   [ 4  ]  ->  [ 9  ]     [ 12 ]

Which way does the camera pan?  right      Which thing comes into view after the star?  circle
What is seen last?  the square             How many things are seen in all?             4
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
from onevision.synth.kit.scene import CELLS, place_name
from onevision.synth.kit.shapes import Colour, Look, random_looks
from onevision.synth.kit.words import ORDINALS, join, number_of, yes_or_no
from onevision.synth.sample import Question, Sample, Split, ask, rng_for

FRAME_COUNTS = (8, 10, 12, 16)
# The change of x and y for each direction of a pan.
HEADINGS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
OPPOSITES = {"right": "left", "left": "right", "down": "up", "up": "down"}
SKIES: tuple[Colour, ...] = ((205, 225, 240), (235, 228, 215), (40, 44, 66), (225, 225, 228))
GRASSES: tuple[Colour, ...] = ((150, 175, 140), (190, 178, 150), (78, 84, 96), (170, 180, 186))
# The distance and size of things, in widths of the view: the first and the last view of a pan show
# a single thing each.
SPACING, RADIUS = 0.76, 0.13
# The farthest that a pan goes from frame to frame, so that every thing is whole in some frame.
MAX_STEP = 0.45


@dataclass(frozen=True, kw_only=True)
class Pan:
    """Things in the order in which they come into view, and how the camera passes them."""

    looks: tuple[Look, ...]
    heading: str
    is_returning: bool
    num_frames: int

    @property
    def motion(self) -> str:
        """How the camera moves, in words."""
        back = f" and back {OPPOSITES[self.heading]}" if self.is_returning else ""
        return f"{self.heading}{back}"


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """Things in cells of a 3 x 3 grid, the one in the closest view, and the direction."""

    looks: dict[tuple[int, int], Look]
    target: tuple[int, int]
    is_inward: bool
    num_frames: int

    @property
    def way(self) -> str:
        """In or out."""
        return "in" if self.is_inward else "out"


def make(split: Split, index: int) -> Sample:
    """Makes the `index`-th pan or zoom of a split."""
    rng = rng_for(split, "pans", index)
    side, num_frames = rng.randint(98, 140), rng.choice(FRAME_COUNTS)
    if rng.random() < 0.35:
        return _zoom_sample(rng, num_frames, side)
    is_returning = rng.random() < 0.25
    looks = tuple(random_looks(rng, rng.randint(3, 5 if is_returning else 6)))
    way = SPACING * (len(looks) - 1) * (1 + is_returning)
    pan = Pan(
        looks=looks,
        heading=rng.choice(list(HEADINGS)),
        is_returning=is_returning,
        num_frames=max(num_frames, math.ceil(way / MAX_STEP) + 1),
    )
    names = [f"the {look.name}" for look in looks]
    caption = f"The camera pans {pan.motion} over {number_of(len(looks), 'thing')}."
    return Sample(
        media=(Video(_pan_frames(pan, rng, side=side)),),
        caption=caption,
        detail=f"{caption} These come into view, one after the other: {join(names)}.",
        questions=choose(rng, _pan_questions(pan, rng)),
    )


def _pan_frames(pan: Pan, rng: random.Random, *, side: int) -> list[PillowImage]:
    """Draws the whole strip once and cuts the frames out of it."""
    dx, dy = HEADINGS[pan.heading]
    length = round(side * (1 + SPACING * (len(pan.looks) - 1)))
    width, height = (length, side) if dx else (side, length)
    strip = _landscape(rng, width=width, height=height)
    for n, look in enumerate(pan.looks):
        along = 0.5 + n * SPACING + rng.uniform(-0.03, 0.03)
        along = along * side if dx + dy > 0 else length - along * side
        across = side * rng.uniform(0.3, 0.7)
        x, y = (along, across) if dx else (across, along)
        look.stamp(strip, x=x, y=y, radius=RADIUS * side)
    frames = []
    for frame in range(pan.num_frames):
        share = frame / (pan.num_frames - 1)
        if pan.is_returning:  # the turn falls on the middle frame, or on both middle ones
            share = (
                (1 - abs(1 - 2 * share)) * (pan.num_frames - 1) / ((pan.num_frames - 1) // 2 * 2)
            )
        offset = round((length - side) * (share if dx + dy > 0 else 1 - share))
        left, top = (offset, 0) if dx else (0, offset)
        frames.append(strip.crop((left, top, left + side, top + side)))
    return frames


def _landscape(rng: random.Random, *, width: int, height: int) -> PillowImage:
    """Draws a ground with pale dots, which show that the camera moves."""
    choice = rng.randrange(len(SKIES))
    canvas = PIL.new("RGB", (width, height), SKIES[choice])
    pen = ImageDraw.Draw(canvas)
    for _ in range(width * height // 900):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1, 3.5)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=GRASSES[choice])
    return canvas


def _pan_questions(pan: Pan, rng: random.Random) -> Iterator[Question]:
    """Asks about the way of the camera, and the order and number of the things."""
    names = [look.name for look in pan.looks]
    way = "In which direction does the camera pan"
    if pan.is_returning:
        words = (f"{way} at first?", "Which way does the camera go before it turns back?")
    else:
        words = (f"{way}?", "Which way does the camera pan?")
    yield ask(rng, "direction", words, pan.heading)
    words = ("How many different things are seen in all?", "How many things does the clip show?")
    yield ask(rng, "count", words, str(len(names)))
    words = ("What is seen at the beginning?", "Which thing is in the first frame?")
    yield ask(rng, "at_first", words, names[0])
    last = names[0] if pan.is_returning else names[-1]
    words = ("What is seen at the very end?", "Which thing is in the last frame?")
    yield ask(rng, "at_last", words, last)
    n = rng.randrange(1, len(names))
    words = (f"Which thing comes into view after the {names[n - 1]}?",)
    if pan.is_returning:
        words = (f"As the camera goes {pan.heading}, what comes after the {names[n - 1]}?",)
    yield ask(rng, "after", words, names[n])
    words = (f"What is the {ORDINALS[n]} thing to come into view?",)
    yield ask(rng, "nth", words, names[n])
    look = rng.choice(pan.looks)
    words = (f"What colour is the {look.shape}?", f"Which colour has the {look.shape}?")
    yield ask(rng, "colour", words, look.colour)
    words = (f"Which shape is {look.colour}?", f"What is the shape of the {look.colour} thing?")
    yield ask(rng, "shape", words, look.shape)
    words = ("Does the camera turn back?", "Does the camera return to where it began?")
    if pan.is_returning or rng.random() < 0.4:
        yield ask(rng, "returns", words, yes_or_no(pan.is_returning))
    words = ("Does the camera pan, zoom in or zoom out?", "What does the camera do: pan or zoom?")
    if rng.random() < 0.4:
        yield ask(rng, "camera", words, "pan")
    a, b = rng.sample(range(len(names)), 2)
    words = (f"Which is seen first, the {names[a]} or the {names[b]}?",)
    yield ask(rng, "earlier", words, names[min(a, b)])


def _zoom_sample(rng: random.Random, num_frames: int, side: int) -> Sample:
    """Makes a clip that zooms in on one of some things, or out from it."""
    count = rng.randint(3, 6)
    cells = sorted(rng.sample(CELLS, count))
    looks = dict(zip(cells, random_looks(rng, count), strict=True))
    zoom = Zoom(
        looks=looks,
        target=rng.choice(cells),
        is_inward=rng.random() < 0.5,
        num_frames=num_frames,
    )
    name = looks[zoom.target].name
    prepositions = {"in": "in on", "out": "out from"}
    caption = f"The camera zooms {prepositions[zoom.way]} the {name}."
    each = [f"the {f.name} at the {place_name(*cell)}" for cell, f in looks.items()]
    return Sample(
        media=(Video(_zoom_frames(zoom, rng, side=side)),),
        caption=caption,
        detail=f"{caption} The widest view shows {join(each)}.",
        questions=choose(rng, _zoom_questions(zoom, rng)),
    )


def _zoom_frames(zoom: Zoom, rng: random.Random, *, side: int) -> list[PillowImage]:
    """Draws the widest view large, and cuts ever smaller squares out of it."""
    large = 3 * side
    scene = _landscape(rng, width=large, height=large)
    for (col, row), look in zoom.looks.items():
        x, y = (col + 0.5) * side, (row + 0.5) * side
        look.stamp(scene, x=x, y=y, radius=0.3 * side)
    frames = []
    for frame in range(zoom.num_frames):
        share = frame / (zoom.num_frames - 1)
        share = share if zoom.is_inward else 1 - share
        width = large * math.exp(math.log(1 / 3) * share)
        reach = (large - width) / (large - side)
        left, top = zoom.target[0] * side * reach, zoom.target[1] * side * reach
        box = (left, top, left + width, top + width)
        frames.append(scene.resize((side, side), PIL.Resampling.BILINEAR, box=box))
    return frames


def _zoom_questions(zoom: Zoom, rng: random.Random) -> Iterator[Question]:
    """Asks which way the camera zooms, on what, and what the widest view shows."""
    target, count = zoom.looks[zoom.target], len(zoom.looks)
    wide, close = ("beginning", "end") if zoom.is_inward else ("end", "beginning")
    words = ("Does the camera zoom in or out?", "Which way does the camera zoom?")
    yield ask(rng, "zoom", words, zoom.way)
    words = (
        "Which thing is still in view when the camera is closest?",
        "Which thing fills the closest view?",
    )
    yield ask(rng, "target", words, target.name)
    words = (f"What does the camera see at the {close}?", f"Which thing is seen at the {close}?")
    yield ask(rng, "close", words, target.name)
    for moment, number in ((wide, count), (close, 1)):
        words = (f"How many things are in view at the {moment}?",)
        yield ask(rng, "count", words, str(number))
    words = ("How many different things does the clip show?",)
    yield ask(rng, "total", words, str(count))
    cell, look = rng.choice(list(zoom.looks.items()))
    words = (f"Where is the {look.name} at the {wide}?",)
    yield ask(rng, "where", words, place_name(*cell))
    words = (f"What is at the {place_name(*cell)} at the {wide}?",)
    yield ask(rng, "what_at", words, look.name)
    words = (f"What colour is the {look.shape}?", f"Which colour has the {look.shape}?")
    yield ask(rng, "colour", words, look.colour)
    words = ("Does the camera pan, zoom in or zoom out?",)
    yield ask(rng, "camera", words, f"zoom {zoom.way}")
    seen = rng.random() < 0.5
    others = [f.name for f in zoom.looks.values() if f is not target]
    name = target.name if seen else rng.choice(others)
    words = (f"Is the {name} in view at the {close}?",)
    yield ask(rng, "in_view", words, yes_or_no(seen))
