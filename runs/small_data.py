"""What `small` learns: named drawings and photographs -> pictures, records, mixtures, a card.

    python runs/small_data.py SOURCES OUT [--samples 6000] [--seed 0]

    OUT/captions.json   one picture, one name: stage align
    OUT/talks.json      one picture or several cut-outs, questions and answers: stage onevision
    OUT/tests/*.json    openmoji, groceries and clothes that no training picture shows
    OUT/SOURCES.md      where the pictures are from, with licences and authors
    OUT/small_*.yaml    the mixtures of the two stages

Every answer is true by construction: what was drawn, where, how often, on which ground.
"""

import argparse
import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter
from small_sources import (
    CLOTHES,
    DESIGNS,
    GROCERIES,
    HELD_OUT,
    NAMES,
    WORDNET,
    Photo,
    Source,
    Sources,
    Thing,
    digest,
    draw,
)

SIDE = 224  # of a picture, in pixels
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
Turns = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A drawing placed on a picture."""

    thing: Thing
    left: int
    top: int
    size: int

    @property
    def place(self) -> str:
        """Where its middle is: "left", "right" or "middle"."""
        middle = self.left + self.size / 2
        return "left" if middle < SIDE * 0.4 else "right" if middle > SIDE * 0.6 else "middle"


@lru_cache(maxsize=8192)
def drawing(body: str) -> Image.Image:
    """Renders a drawing once."""
    picture = draw(body)
    return picture.crop(picture.getbbox() or (0, 0, 1, 1))


def ground(rng: random.Random, photos: list[Photo]) -> tuple[str, Image.Image]:
    """Returns a ground and its name: flat, shaded, or the blurred part of a photograph."""
    name, colour = rng.choice(list(GROUNDS.items()))
    if rng.random() < 0.2:
        picture = photo_picture(rng.choice(photos)).filter(ImageFilter.GaussianBlur(9))
        return "blurred", picture
    picture = Image.new("RGB", (SIDE, SIDE), tuple(c + rng.randint(-12, 0) for c in colour))
    return name, picture


def photo_picture(photo: Photo) -> Image.Image:
    """Returns a photograph's middle, SIDE x SIDE."""
    picture = Image.open(photo.path)
    picture.draft("RGB", (2 * SIDE, 2 * SIDE))
    picture = picture.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )


def paste(picture: Image.Image, cut: Cut, rng: random.Random) -> None:
    """Pastes a drawing in one of its learned designs, perhaps mirrored."""
    bodies = [b for design, b in cut.thing.bodies.items() if design != HELD_OUT.name]
    piece = drawing(rng.choice(bodies)).copy()
    piece.thumbnail((cut.size, cut.size))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.paste(piece, (cut.left, cut.top), piece)


def be(thing: Thing) -> str:
    """Returns the sentence that names a thing."""
    return f"These are {thing.phrase}." if thing.is_plural else f"This is {thing.phrase}."


def describe(thing: Thing, name: str) -> str:
    """Returns a name, a kind, what WordNet says, and the ground."""
    text = f"A drawing of {thing.phrase}" + (
        "." if name == "blurred" else f" on a {name} background."
    )
    if thing.gloss:
        start = thing.phrase[0].upper() + thing.phrase[1:]
        return f"{text} {start} {'are' if thing.is_plural else 'is'} {thing.gloss}."
    return f"{text} It is a kind of {thing.kind}."


class Teller:
    """Pictures with questions and answers, drawn at random from the sources."""

    def __init__(self, sources: Sources, rng: random.Random) -> None:
        self.rng = rng
        self.things = [t for t in sources.things if set(t.bodies) - {HELD_OUT.name}]
        self.photos = sources.photos("train")
        self.names = sorted({photo.group for photo in self.photos})

    def one(self, thing: Thing) -> tuple[Image.Image, str, Turns]:
        """Returns a picture of one thing, its caption, and what can be said of it."""
        rng = self.rng
        name, picture = ground(rng, self.photos)
        size = rng.randint(90, 214)
        cut = Cut(
            thing=thing,
            left=rng.randint(0, SIDE - size),
            top=rng.randint(0, SIDE - size),
            size=size,
        )
        paste(picture, cut, rng)
        other = self._other([thing])
        turns = [(rng.choice(WHAT), be(thing))]
        more = [
            (rng.choice(DESCRIBE), describe(thing, name)),
            (rng.choice(KIND), f"It is a kind of {thing.kind}."),
            (f"Is there {other.phrase} in the picture?", f"No, there is {thing.phrase}."),
            (
                f"Is this {thing.phrase}?",
                f"Yes, {'these are' if thing.is_plural else 'this is'} {thing.phrase}.",
            ),
            (
                f"Is this {thing.phrase} or {other.phrase}?",
                f"{thing.phrase[0].upper()}{thing.phrase[1:]}.",
            ),
        ]
        if name != "blurred":
            more.append(("What colour is the background?", f"It is {name}."))
        rng.shuffle(more)
        turns += more[:3]
        if rng.random() < 0.5:
            rng.shuffle(turns)
        return picture, thing.phrase, turns

    def several(self) -> tuple[Image.Image, Turns]:
        """Returns a picture of two to six cut-outs in a row or a grid."""
        rng = self.rng
        kinds = rng.sample(self.things, rng.choice((1, 2, 2, 3)))
        counts = [rng.randint(1, 3 if len(kinds) < 3 else 2) for _ in kinds]
        if sum(counts) == 1:
            counts[0] = 2
        things = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
        rng.shuffle(things)
        cols = 2 if len(things) in (2, 4) else 3
        rows = -(-len(things) // cols)
        cell = SIDE // cols
        name, picture = ground(rng, self.photos)
        top = (SIDE - rows * cell) // 2
        cuts = []
        for index, thing in enumerate(things):
            size = int(cell * rng.uniform(0.75, 0.98))
            left = index % cols * cell + rng.randint(0, cell - size)
            cuts.append(Cut(thing=thing, left=left, top=top + index // cols * cell, size=size))
            paste(picture, cuts[-1], rng)
        return picture, self._of_several(cuts, name)

    def _of_several(self, cuts: list[Cut], name: str) -> Turns:
        rng = self.rng
        counts = Counter(cut.thing.name for cut in cuts)
        by_name = {cut.thing.name: cut.thing for cut in cuts}
        parts = [counted(by_name[key], count) for key, count in counts.items()]
        listed = ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]
        thing, other = rng.choice(list(by_name.values())), self._other(by_name.values())
        count = counts[thing.name]
        verb, number = ("is" if count == 1 else "are"), NUMBERS[count]
        turns = [
            (rng.choice(("What do you see?", *DESCRIBE)), f"There are {listed}."),
            (f"How many drawings of {thing.phrase} are there?", f"There {verb} {number}."),
            ("How many things are there?", f"There are {NUMBERS[len(cuts)]}."),
            (f"Is there {other.phrase}?", f"No, there is no {other.name}."),
            (f"Is there {thing.phrase}?", f"Yes, there {verb} {counted(thing, count)}."),
        ]
        if len(cuts) == 2 and len(counts) == 2:
            turns += [
                (f"What is on the {cut.place}?", f"On the {cut.place} is {cut.thing.phrase}.")
                for cut in cuts
                if cut.place != "middle"
            ]
        if name != "blurred":
            turns.append(("What colour is the background?", f"It is {name}."))
        rng.shuffle(turns)
        return turns[:4]

    def photo(self, photo: Photo) -> tuple[Image.Image, str, Turns]:
        """Returns a photograph and what its data set says of it."""
        rng = self.rng
        name, group = photo.name, photo.group
        other = rng.choice([one for one in self.names if one != group])
        if photo.is_clothing:
            whole = name if name.endswith(("s", "coat")) and name != "dress" else f"a {name}"
            caption, kind, short = whole, "a piece of clothing", f"This is {whole}."
            long = f"A photo of {whole}, a piece of clothing, laid out or worn."
        else:
            caption, kind, short = name, "food in a shop", f"The picture shows {name}, in a shop."
            long = f"A photo of {name} in a shop. {photo.text}".strip()
        turns = [
            (rng.choice(WHAT), short),
            (rng.choice(DESCRIBE), long),
            (f"Is this {group} or {other}?", f"{group[0].upper()}{group[1:]}."),
            (rng.choice(KIND), f"It is {kind}."),
        ]  # fmt: skip
        rng.shuffle(turns)
        return photo_picture(photo), caption, turns

    def nothing(self) -> tuple[Image.Image, Turns]:
        """Returns a picture in which there is nothing to name."""
        rng = self.rng
        if rng.random() < 0.5:
            name, colour = rng.choice(list(GROUNDS.items()))
            picture, what = Image.new("RGB", (SIDE, SIDE), colour), f"a plain {name} area"
        elif rng.random() < 0.5:
            small = rng.randint(8, SIDE)
            noise = Image.frombytes("RGB", (small, small), rng.randbytes(3 * small * small))
            picture, what = noise.resize((SIDE, SIDE)), "noise"
        else:
            picture, what = Image.new("RGB", (SIDE, SIDE), (230, 230, 230)), "lines"
            pen = ImageDraw.Draw(picture)
            for _ in range(rng.randint(3, 30)):
                ends = [rng.randint(0, SIDE) for _ in range(4)]
                pen.line(ends, fill=rng.choice(list(GROUNDS.values())), width=rng.randint(1, 6))
        answer = rng.choice(UNKNOWN).format(what)
        return picture, [(rng.choice((*WHAT, *DESCRIBE)), answer)]

    def _other(self, things: object) -> Thing:
        taken = {thing.name for thing in things}
        return self.rng.choice([one for one in self.things if one.name not in taken])


def counted(thing: Thing, count: int) -> str:
    """Returns "a banana", or "three drawings of a banana"."""
    return thing.phrase if count == 1 else f"{NUMBERS[count]} drawings of {thing.phrase}"


class Writer:
    """Pictures and records below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, list[dict[str, object]]] = {}

    def add(self, name: str, picture: Image.Image, turns: Turns) -> None:
        """Saves a picture and its record in the set `name`."""
        records = self.records.setdefault(name, [])
        path = self.folder / name / f"{len(records):05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.convert("RGB").save(path, quality=88)
        talk = []
        for number, (question, answer) in enumerate(turns):
            mark = "" if number else "<image>\n"
            talk.append({"from": "human", "value": mark + question})
            talk.append({"from": "gpt", "value": answer})
        records.append({"image": f"{name}/{path.name}", "conversations": talk})

    def close(self) -> None:
        """Writes the records."""
        for name, records in self.records.items():
            path = self.folder / f"{name}.json"
            path.write_text(json.dumps(records, indent=0), encoding="utf-8")


def write_training(teller: Teller, writer: Writer, count: int) -> None:
    """Writes the two training sets, `count` pictures each."""
    rng = teller.rng
    for number in range(count):
        if rng.random() < 0.35:
            picture, caption, _ = teller.photo(rng.choice(teller.photos))
        else:
            picture, caption, _ = teller.one(teller.things[number % len(teller.things)])
        writer.add("captions", picture, [("What is this?", caption)])
    for number in range(count):
        chance = rng.random()
        if chance < 0.5:
            picture, _, turns = teller.one(teller.things[number % len(teller.things)])
        elif chance < 0.7:
            picture, turns = teller.several()
        elif chance < 0.95:
            picture, _, turns = teller.photo(rng.choice(teller.photos))
        else:
            picture, turns = teller.nothing()
        writer.add("talks", picture, turns)


def write_tests(sources: Sources, writer: Writer, seed: int) -> None:
    """Writes the held-out sets: one question a picture; the answer is the name alone."""
    rng = random.Random(seed)
    for thing in sources.things:
        if body := thing.bodies.get(HELD_OUT.name):
            picture = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
            piece = draw(body, size=SIDE)
            picture.paste(piece, ((SIDE - piece.width) // 2, (SIDE - piece.height) // 2), piece)
            writer.add("openmoji", picture, [("What is this?", thing.name)])
    photos = sources.photos("test")
    for name, is_clothing in (("groceries", False), ("clothes", True)):
        chosen = [photo for photo in photos if photo.is_clothing == is_clothing]
        for photo in rng.sample(chosen, min(len(chosen), 300)):
            writer.add(name, photo_picture(photo), [("What is this?", photo.group)])


def describe_sources(folder: Path) -> str:
    """Returns the table of sources, with the digests of the archives that were read."""
    lines = ["| source | version | licence | by | SHA-256 |", "|---|---|---|---|---|"]
    every: tuple[Source, ...] = (*DESIGNS, HELD_OUT, NAMES, WORDNET, GROCERIES, CLOTHES)
    for one in every:
        packed = list(folder.glob(f"*{one.name}-{one.version}.tgz"))
        mark = f"`{digest(packed[0])[:16]}`" if packed else "(the commit)"
        note = " (test only)" if one is HELD_OUT else ""
        lines.append(
            f"| {one.name}{note} | {one.version} | {one.licence} | {one.author} | {mark} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--samples", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    sources = Sources(folder=told.sources)
    writer, tests = Writer(told.output), Writer(told.output / "tests")
    write_training(Teller(sources, random.Random(told.seed)), writer, told.samples)
    write_tests(sources, tests, told.seed)
    writer.close()
    tests.close()
    (told.output / "SOURCES.md").write_text(describe_sources(told.sources), encoding="utf-8")
    for path in (Path(__file__).parents[1] / "onevision" / "mixtures").glob("small_*.yaml"):
        shutil.copyfile(path, told.output / path.name)


if __name__ == "__main__":
    main()
