"""`Material` -> pictures, several pictures and clips of cut-outs, with what is true of them.

Every answer follows from what was drawn: what, how often, where, on which ground; what is not there
is asked about too. Colours are named where one was chosen: of a flat ground, of an icon's ink.
"""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter, ImageStat
from tiny_material import Drawing, Material, Named, Photographed, render

from onevision.synth.kit.words import ORDINALS, join

Turns = list[tuple[str, str]]
GROUNDS = {
    "white": (255, 255, 255), "black": (20, 20, 20), "grey": (150, 150, 150),
    "red": (214, 60, 60), "green": (80, 170, 90), "blue": (60, 110, 210),
    "light blue": (170, 210, 245), "yellow": (245, 215, 80), "orange": (240, 150, 60),
    "purple": (140, 90, 180), "pink": (245, 175, 195), "brown": (130, 90, 60),
}  # fmt: skip
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
WHAT = (
    "What is this?", "What is in this picture?", "What does the image show?", "What do you see?",
    "Name the thing in the picture.", "What is it?", "Can you tell me what this is?",
)  # fmt: skip
DESCRIBE = ("Describe the image.", "Describe this picture.", "Tell me about this image.")
KIND = ("What kind of thing is it?", "What sort of thing is this?")
UNKNOWN = (
    "I cannot tell: the picture shows only {}.", "I cannot tell. There is only {} in the picture.",
)  # fmt: skip
CHINESE = ("这是什么？", "图里有什么？", "这叫什么？")  # noqa: RUF001
IN_CHINESE = ("What is it called in Chinese?", "Say in Chinese what this is.")
CANNOT = ("I cannot tell what it is. It may be a kind of {}.", "I cannot tell. Perhaps a {}.")
SIDES = (224, 288, 336, 448)
MOVES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
CONTRAST = 170  # of an ink with its ground, summed over red, green and blue
FRAME = 112  # a side of a clip, which is written at twice the size


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A thing placed on a picture."""

    thing: Named
    drawing: Drawing
    ink: str | None
    left: int
    top: int
    size: int


class Teller:
    """Draws from the things that training may see."""

    def __init__(self, material: Material, rng: random.Random) -> None:
        self.rng, self.photos = rng, material.photos
        shown = [thing for thing in material.things if not thing.is_withheld]
        self.unnamed = [thing for thing in shown if thing.is_unnamed]
        self.things = [thing for thing in shown if not thing.is_unnamed]
        self.groups = sorted({photo.group for photo in self.photos})

    def ground(self, width: int, height: int) -> tuple[str | None, Image.Image]:
        """Returns a ground and its colour: flat, textured (None), or photographed (None)."""
        rng, chance = self.rng, self.rng.random()
        name, colour = rng.choice(list(GROUNDS.items()))
        if chance < 0.5:
            shade = tuple(c + rng.randint(-12, 0) for c in colour)
            return name, Image.new("RGB", (width, height), shade)
        if chance < 0.75 and self.photos:
            photo = open_photo(rng.choice(self.photos), width, height)
            return None, photo.filter(ImageFilter.GaussianBlur(rng.choice((0, 2, 5))))
        return None, texture(rng, width, height)

    def cut(self, thing: Named, ground: Image.Image, size: int, *, cell: int | None = None) -> Cut:
        """Chooses a drawing of a thing, an ink that stands off the ground, and its place.

        The place is anywhere on the ground, or in a square of `cell` pixels at its corner.
        """
        rng = self.rng
        drawing, ink = rng.choice(thing.drawings), None
        if drawing.is_mono:
            mean = ImageStat.Stat(ground).mean
            ink = rng.choice([
                name for name, colour in GROUNDS.items()
                if sum(abs(a - b) for a, b in zip(colour, mean, strict=True)) > CONTRAST
            ])  # fmt: skip
        left = rng.randint(0, (cell or ground.width) - size)
        top = rng.randint(0, (cell or ground.height) - size)
        return Cut(thing=thing, drawing=drawing, ink=ink, left=left, top=top, size=size)

    def other(self, taken: Collection[str]) -> Named:
        """Returns a thing that is not among those."""
        return self.rng.choice([one for one in self.things if one.name not in taken])

    def one(self, thing: Named) -> tuple[Image.Image, Turns]:
        """Returns a picture of one thing and what can be said of it."""
        rng, side = self.rng, self.rng.choice(SIDES)
        colour, picture = self.ground(side, side)
        cut = self.cut(thing, picture, rng.randint(side * 2 // 5, side))
        paste(picture, cut, rng)
        if thing.is_unnamed:
            told = rng.choice(CANNOT).format(thing.kind)
            return picture, [(rng.choice(WHAT), told), (rng.choice(KIND), kind_of(thing))]
        turns = [(rng.choice(WHAT), be(thing))]
        more = self._about(thing, cut, colour)
        rng.shuffle(more)
        turns += more[:4]
        if rng.random() < 0.5:
            rng.shuffle(turns)
        return picture, turns

    def _about(self, thing: Named, cut: Cut, colour: str | None) -> Turns:
        rng, other = self.rng, self.other({thing.name})
        there = "these are" if thing.is_plural else "this is"
        verb = "are" if thing.is_plural else "is"
        turns = [
            (rng.choice(DESCRIBE), describe(thing, colour)),
            (rng.choice(KIND), kind_of(thing)),
            (f"Is there {other.phrase} in the picture?", f"No, there is {thing.phrase}."),
            (f"Is this {thing.phrase}?", f"Yes, {there} {thing.phrase}."),
            (f"Is this {thing.phrase} or {other.phrase}?", f"{capital(thing.phrase)}."),
        ]
        if thing.chinese:
            turns += [(rng.choice(CHINESE), f"{thing.chinese}。")]
            turns += [(rng.choice(IN_CHINESE), f"{thing.chinese}。")]
        if colour is not None:
            turns.append(("What colour is the background?", f"It is {colour}."))
        if cut.ink is not None:
            turns.append((f"What colour {verb} the {thing.name}?", f"It is {cut.ink}."))
        return turns

    def several(self) -> tuple[Image.Image, Turns]:
        """Returns one to six cut-outs in a grid, and how many, which, and where they are."""
        rng = self.rng
        kinds = rng.sample(self.things, rng.choice((1, 2, 2, 3)))
        counts = [rng.randint(1, 3 if len(kinds) < 3 else 2) for _ in kinds]
        things = [kind for kind, n in zip(kinds, counts, strict=True) for _ in range(n)]
        rng.shuffle(things)
        cols = min(len(things), rng.choice((2, 3)))
        rows, cell = -(-len(things) // cols), rng.choice((112, 160, 200))
        colour, picture = self.ground(cols * cell, rows * cell)
        cuts = []
        for index, thing in enumerate(things):
            size = int(cell * rng.uniform(0.7, 0.98))
            inner = self.cut(thing, picture, size, cell=cell)
            left, top = inner.left + index % cols * cell, inner.top + index // cols * cell
            cuts.append(Cut(**vars(inner) | {"left": left, "top": top}))
            paste(picture, cuts[-1], rng)
        turns = self._counts(cuts, colour) + _places(cuts, picture.width, picture.height)
        rng.shuffle(turns)
        return picture, turns[:5]

    def _counts(self, cuts: Sequence[Cut], colour: str | None) -> Turns:
        rng = self.rng
        counts = Counter(cut.thing.name for cut in cuts)
        things = {cut.thing.name: cut.thing for cut in cuts}
        parts = [counted(things[name], count) for name, count in counts.items()]
        thing, other = rng.choice(list(things.values())), self.other(things)
        count = counts[thing.name]
        verb = "is" if count == 1 else "are"
        turns = [
            (rng.choice(("What do you see?", *DESCRIBE)), f"There are {join(parts)}."),
            (f"How many drawings of {thing.phrase} are there?", f"There {verb} {NUMBERS[count]}."),
            ("How many things are there?", f"There are {NUMBERS[len(cuts)]}."),
            (f"How many drawings of {other.phrase} are there?", "There are none."),
            (f"Is there {other.phrase}?", f"No, there is no {other.name}."),
            (f"Is there {thing.phrase}?", f"Yes, there {verb} {counted(thing, count)}."),
        ]
        if colour is not None:
            turns.append(("What colour is the background?", f"It is {colour}."))
        return turns

    def pair(self) -> tuple[list[Image.Image], Turns]:
        """Returns two to four pictures of one thing each, and which shows what."""
        rng = self.rng
        count = rng.randint(2, 4)
        kinds = rng.sample(self.things, rng.randint(1, count))
        things = [*kinds, *rng.choices(kinds, k=count - len(kinds))]
        rng.shuffle(things)
        pictures = []
        for thing in things:
            _, picture = self.ground(224, 224)
            paste(picture, self.cut(thing, picture, rng.randint(110, 220)), rng)
            pictures.append(picture)
        index, shown = rng.randrange(count), Counter(thing.name for thing in things)
        thing, other = things[index], self.other(shown)
        number = NUMBERS[shown[thing.name]]
        same = "Yes, all of them do." if len(shown) == 1 else "No, they do not."
        turns = [
            (f"What is in the {ORDINALS[index]} picture?", f"{capital(thing.phrase)}."),
            (f"How many pictures show {thing.phrase}?", f"{capital(number)}."),
            ("Do the pictures show the same thing?", same),
            (f"Does any picture show {other.phrase}?", "No, none does."),
        ]
        if shown[thing.name] == 1:
            turns.append((f"Which picture shows {thing.phrase}?", f"The {ORDINALS[index]}."))
        rng.shuffle(turns)
        return pictures, turns[:4]

    def clip(self) -> tuple[list[Image.Image], Turns]:
        """Returns frames in which one cut-out moves and another rests, appears or disappears."""
        rng, count = self.rng, self.rng.randint(6, 10)
        mover, rester = rng.sample(self.things, 2)
        way = rng.choice(list(MOVES))
        right, down = MOVES[way]
        _, ground = self.ground(FRAME, FRAME)
        size = FRAME // 3
        moving, resting = (self.cut(thing, ground, size) for thing in (mover, rester))
        change = rng.choice(("rests", "appears", "disappears"))
        first, last = (0, count) if change == "rests" else (count // 2, count)
        first, last = (0, count // 2) if change == "disappears" else (first, last)
        place, flip = FRAME - size, rng.random() < 0.5
        corner = (0 if down == 0 and moving.top > place / 2 else place,
                  0 if right == 0 and moving.left > place / 2 else place)  # fmt: skip
        frames = []
        for number in range(count):
            share = number / (count - 1)
            frame = ground.copy()
            if first <= number < last:
                rest = Cut(**vars(resting) | {"left": corner[1], "top": corner[0]})
                paste(frame, rest, rng, flip=False)
            left = moving.left if right == 0 else int(place * (share if right > 0 else 1 - share))
            top = moving.top if down == 0 else int(place * (share if down > 0 else 1 - share))
            paste(frame, Cut(**vars(moving) | {"left": left, "top": top}), rng, flip=flip)
            frames.append(frame)
        return frames, self._motion(mover, rester, way, change)

    def _motion(self, mover: Named, rester: Named, way: str, change: str) -> Turns:
        other = self.other({mover.name, rester.name})
        verb = "move" if mover.is_plural else "moves"
        told = f"{capital(mover.phrase)} {verb} {way}."
        seen = change if not rester.is_plural else change.removesuffix("s")
        turns = [
            ("What moves?", f"{capital(mover.phrase)}."),
            (f"Which way does the {mover.name} move?", f"{capital(way)}."),
            ("What happens in the video?", f"{told} {capital(rester.phrase)} {seen}."),
            (f"Is there {other.phrase} in the video?", "No."),
        ]
        if change != "rests":
            turns.append((f"What {change}?", f"{capital(rester.phrase)}."))
        self.rng.shuffle(turns)
        return turns[:4]

    def photo(self, photo: Photographed) -> tuple[Image.Image, Turns]:
        """Returns a photograph and what its data set says of it."""
        rng, side = self.rng, self.rng.choice(SIDES)
        other = rng.choice([one for one in self.groups if one != photo.group])
        if photo.is_clothing:
            plural = photo.name.endswith(("s", "coat")) and photo.name != "dress"
            whole = photo.name if plural else f"a {photo.name}"
            kind, short = "a piece of clothing", f"This is {whole}."
            long = f"A photo of {whole}, a piece of clothing, laid out or worn."
        else:
            kind, short = "food in a shop", f"The picture shows {photo.name}, in a shop."
            long = f"A photo of {photo.name} in a shop. {photo.text}".strip()
        turns = [
            (rng.choice(WHAT), short),
            (rng.choice(DESCRIBE), long),
            (f"Is this {photo.group} or {other}?", f"{capital(photo.group)}."),
            (rng.choice(KIND), f"It is {kind}."),
        ]
        rng.shuffle(turns)
        return open_photo(photo, side, side), turns

    def nothing(self) -> tuple[Image.Image, Turns]:
        """Returns a picture with nothing to name, and that it cannot be told."""
        rng, side = self.rng, self.rng.choice(SIDES)
        name, colour = rng.choice(list(GROUNDS.items()))
        if rng.random() < 0.3:
            picture, what = Image.new("RGB", (side, side), colour), f"a plain {name} area"
        else:
            picture, what = texture(rng, side, side), "a pattern"
        return picture, [(rng.choice((*WHAT, *DESCRIBE)), rng.choice(UNKNOWN).format(what))]


def texture(rng: random.Random, width: int, height: int) -> Image.Image:
    """Returns noise, stripes, checks, or a gradient between two colours."""
    one, two = rng.sample(list(GROUNDS.values()), 2)
    way = rng.choice(("noise", "stripes", "checks", "gradient"))
    if way == "noise":
        small = rng.randint(6, max(7, width // 3))
        noise = Image.frombytes("L", (small, small), rng.randbytes(small * small))
        mask = noise.resize((width, height), Image.Resampling.BICUBIC)
    elif way == "gradient":
        mask = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270)))
        mask = mask.resize((width, height))
    else:
        mask, step = Image.new("L", (width, height)), rng.randint(8, 40)
        pen = ImageDraw.Draw(mask)
        for left in range(0, width, 2 * step):
            pen.rectangle((left, 0, left + step - 1, height), fill=255)
        if way == "checks":
            for top in range(0, height, 2 * step):
                strip = mask.crop((0, top, width, top + step)).point(lambda value: 255 - value)
                mask.paste(strip, (0, top))
    return Image.composite(Image.new("RGB", (width, height), one),
                           Image.new("RGB", (width, height), two), mask)  # fmt: skip


def open_photo(photo: Photographed, width: int, height: int) -> Image.Image:
    """Returns a photograph's middle at a size."""
    picture = Image.open(photo.path)
    picture.draft("RGB", (2 * width, 2 * height))
    picture = picture.convert("RGB")
    scale = max(width / picture.width, height / picture.height)
    # The smaller scale leaves a side as it is, but for rounding.
    wide, high = min(width / scale, picture.width), min(height / scale, picture.height)
    left, top = (picture.width - wide) / 2, (picture.height - high) / 2
    box = (left, top, left + wide, top + high)
    return picture.resize((width, height), Image.Resampling.BICUBIC, box)


def paste(picture: Image.Image, cut: Cut, rng: random.Random, *, flip: bool | None = None) -> None:
    """Pastes a cut-out, in its ink, perhaps mirrored; a flag or a sign never is."""
    piece = render(cut.drawing).copy()
    if cut.ink is not None:
        inked = Image.new("RGBA", piece.size, GROUNDS[cut.ink])
        inked.putalpha(piece.getchannel("A"))
        piece = inked
    scale = cut.size / max(piece.size)
    piece = piece.resize([max(1, int(scale * side)) for side in piece.size])
    mirrored = rng.random() < 0.5 if flip is None else flip
    if mirrored and cut.thing.kind != "flag":
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.paste(piece, (cut.left, cut.top), piece)


def _places(cuts: Sequence[Cut], width: int, height: int) -> Turns:
    """Asks where the things stand that are there once, by halves they lie in wholly."""
    counts = Counter(cut.thing.name for cut in cuts)
    turns = []
    for cut in cuts:
        if counts[cut.thing.name] > 1 or len(cuts) == 1:
            continue
        sides = [
            name
            for name, holds in (
                ("left", cut.left + cut.size <= width / 2), ("right", cut.left >= width / 2),
                ("top", cut.top + cut.size <= height / 2), ("bottom", cut.top >= height / 2),
            )
            if holds
        ]  # fmt: skip
        if sides:
            verb = "are" if cut.thing.is_plural else "is"
            told = (
                f"{'At' if sides[-1] in ('top', 'bottom') else 'On'} the {' '.join(sides[::-1])}."
            )
            turns.append((f"Where {verb} the {cut.thing.name}?", told))
    return turns


def counted(thing: Named, count: int) -> str:
    """Returns "a banana", or "three drawings of a banana"."""
    return thing.phrase if count == 1 else f"{NUMBERS[count]} drawings of {thing.phrase}"


def be(thing: Named) -> str:
    """Returns the sentence that names a thing."""
    return f"These are {thing.phrase}." if thing.is_plural else f"This is {thing.phrase}."


def kind_of(thing: Named) -> str:
    """Returns the sentence that says what kind it is."""
    return f"It is a kind of {thing.kind}."


def describe(thing: Named, colour: str | None) -> str:
    """Returns a name, the ground, and what WordNet says, else the kind."""
    text = f"A drawing of {thing.phrase}" + (f" on a {colour} background." if colour else ".")
    verb = "are" if thing.is_plural else "is"
    return f"{text} {capital(thing.phrase)} {verb} {thing.gloss or 'a kind of ' + thing.kind}."


def capital(text: str) -> str:
    """Returns a text that begins a sentence."""
    return text[0].upper() + text[1:]
