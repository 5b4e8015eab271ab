"""What the next `tiny` learns and is asked: pictures, clips, records, mixtures, a card's sources.

    python runs/tiny_data.py SOURCES OUT               everything, in pieces that are kept
    python runs/tiny_data.py SOURCES OUT --share 0.01  a hundredth of it
    python runs/tiny_data.py toy OUT --share 0.0002    without any source: shapes and learned faces

    OUT/*.json, OUT/worlds/*.json   records, each with its media in a folder of its name
    OUT/tests/*.json                what no training picture shows: openmoji, groceries, clothes,
                                    tuxpaint, withheld things, writing in 64 typefaces never learned
    OUT/tiny_v2_*.yaml              the mixtures of the five stages
    OUT/SOURCES.md                  sources, terms, authors

A set that is there is not drawn again. The held-out sets must ask what tiny_heldout.json says.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from PIL import Image
from small_data import WHAT
from tiny_fetch import read_list
from tiny_material import Material, Named, describe_sources, read, render, toy
from tiny_scenes import Teller, Turns, capital, open_photo
from tiny_writing import Writer

from onevision.synth.families import FAMILIES
from onevision.synth.write import write_set, write_video

# How many samples of each set there are at share 1: 276,000 in all.
OWN_SETS = {
    "captions": 48_000, "things": 30_000, "several": 15_000, "photos": 8_000, "nothing": 4_000,
    "writing": 30_000, "kinds": 4_000, "pairs_of_things": 8_000, "moving_things": 8_000,
}  # fmt: skip
WORLDS = {
    "scenes": 12_000, "lettered": 8_000, "texts": 4_000, "charts": 8_000, "documents": 5_000,
    "chinese_documents": 2_000, "tables": 5_000, "geometry": 4_000, "screens": 4_000,
    "marks": 3_000, "rooms": 4_000, "pairs": 8_000, "statements": 3_000, "sequences": 3_000,
    "clips": 8_000, "pans": 2_000, "pointed": 3_000, "cameras": 3_000,
}  # fmt: skip
# Worlds whose captions are learned too: the long one, and short ones of one property each.
CAPTIONED = {"scenes_captions": 24_000, "lettered_captions": 8_000}
HELD_OUT = Path(__file__).with_name("tiny_heldout.json")
MIXTURES = Path(__file__).parents[1] / "onevision" / "mixtures"
MAX_ASKED = 300  # of a held-out set
Sample = tuple[Sequence[Image.Image], Turns]


class RecordWriter:
    """Pictures or clips of one set, and its records, written last."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.path = folder / f"{name}.json"

    def write(self, samples: Iterator[Sample], *, is_video: bool = False) -> None:
        """Writes all samples; media are JPEG or MP4."""
        (self.folder / self.name).mkdir(parents=True, exist_ok=True)
        records = []
        for number, (pictures, turns) in enumerate(samples):
            media, marks = self._save(pictures, number, is_video=is_video)
            records.append({"id": f"{self.name}-{number}", **media, "conversations": [
                turn for index, (question, answer) in enumerate(turns) for turn in (
                    {"from": "human", "value": ("" if index else marks) + question},
                    {"from": "gpt", "value": answer},
                )
            ]})  # fmt: skip
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(records, ensure_ascii=False, indent=0), encoding="utf-8")
        part.rename(self.path)

    def _save(
        self, pictures: Sequence[Image.Image], number: int, *, is_video: bool
    ) -> tuple[dict[str, object], str]:
        stem = f"{self.name}/{number:06}"
        if is_video:
            write_video(self.folder / f"{stem}.mp4", pictures, per_second=4)
            return {"video": f"{stem}.mp4"}, "<video>\n"
        names = [f"{stem}-{index}.jpg" for index in range(len(pictures))]
        for name, picture in zip(names, pictures, strict=True):
            picture.convert("RGB").save(self.folder / name, quality=90)
        if not names:
            return {}, ""
        return {"image": names if len(names) > 1 else names[0]}, "<image>\n" * len(names)


class OwnSets:
    """Makes the samples of each set of OWN_SETS; a set's randomness is its own."""

    def __init__(self, material: Material, seed: int) -> None:
        self.material, self.seed = material, seed

    def make(self, name: str, count: int) -> Iterator[Sample]:
        """Yields `count` samples of a set."""
        makers: Mapping[str, Callable[[Teller, int], Iterator[Sample]]] = {
            "captions": self._captions,
            "things": self._things,
            "photos": self._photos,
            "writing": self._writing,
            "kinds": lambda teller, count: kinds(self.material, teller.rng, count),
            "several": lambda teller, count: one_each(teller.several, count),
            "nothing": lambda teller, count: one_each(teller.nothing, count),
            "pairs_of_things": lambda teller, count: (teller.pair() for _ in range(count)),
            "moving_things": lambda teller, count: (teller.clip() for _ in range(count)),
        }
        return makers[name](Teller(self.material, random.Random(f"{self.seed}/{name}")), count)

    def _things(self, teller: Teller, count: int) -> Iterator[Sample]:
        shown = [*teller.things, *teller.unnamed]
        for number in range(count):
            picture, turns = teller.one(shown[number % len(shown)])
            yield [picture], turns

    def _captions(self, teller: Teller, count: int) -> Iterator[Sample]:
        writer = Writer(self.material.faces, self.material.words, teller.rng)
        for number in range(count):
            chance = teller.rng.random()
            if chance < 0.15:
                written = writer.write()
                yield [written.picture], [(WHAT[0], f'the text "{written.lines[0]}"')]
            elif self.material.photos and chance < 0.35:
                photo = teller.rng.choice(self.material.photos)
                yield [open_photo(photo, 224, 224)], [(WHAT[0], photo.name)]
            else:
                thing = teller.things[number % len(teller.things)]
                yield [teller.one(thing)[0]], [(WHAT[0], thing.phrase)]

    def _photos(self, teller: Teller, count: int) -> Iterator[Sample]:
        photos = self.material.photos
        if not photos:  # a rehearsal, whose mixtures must hold something
            yield from one_each(teller.nothing, count)
        for number in range(count if photos else 0):
            picture, turns = teller.photo(photos[number % len(photos)])
            yield [picture], turns

    def _writing(self, teller: Teller, count: int) -> Iterator[Sample]:
        writer = Writer(self.material.faces, self.material.words, teller.rng)
        return one_each(writer.sample, count)


def one_each(make: Callable[[], tuple[Image.Image, Turns]], count: int) -> Iterator[Sample]:
    """Yields samples of one picture."""
    for _ in range(count):
        picture, turns = make()
        yield [picture], turns


def kinds(material: Material, rng: random.Random, count: int) -> Iterator[Sample]:
    """Yields questions without a picture: what kind a thing is, and what WordNet says of it."""
    for _ in range(count):
        name, (kind, gloss) = rng.choice(sorted(material.kinds.items()))
        what = f"What is meant by {name}?"
        yield (
            [],
            [
                (what, f"{capital(gloss)}."),
                (f"What kind of thing is meant by {name}?", f"A {kind}."),
            ],
        )


def test_sets(material: Material) -> dict[str, list[tuple[Image.Image, str, str]]]:
    """Returns the held-out sets: pictures with a question and the name that an answer holds."""
    rng = random.Random("tiny/heldout")
    asked: dict[str, list[tuple[Image.Image, str, str]]] = {"openmoji": [], "withheld": []}
    for thing in material.test_things:
        if not thing.is_withheld and not thing.is_unnamed:
            asked["openmoji"].append((on_white(thing), WHAT[0], thing.name))
    withheld = [thing for thing in material.things if thing.is_withheld]
    for thing in rng.sample(withheld, min(MAX_ASKED, len(withheld))):
        asked["withheld"].append((on_white(thing), WHAT[0], "I cannot tell"))
    for name, is_clothing in (("groceries", False), ("clothes", True)):
        photos = [one for one in material.test_photos if one.is_clothing == is_clothing]
        asked[name] = [(open_photo(one, 224, 224), WHAT[0], one.group)
                       for one in rng.sample(photos, min(MAX_ASKED, len(photos)))]  # fmt: skip
    asked["tuxpaint"] = [(on_white(one), WHAT[0], one.name) for one in material.test_cutouts]
    writer = Writer(material.test_faces, material.words, rng)
    written = [writer.write() for _ in range(MAX_ASKED)]
    asked["writing"] = [(one.picture, "What is written in the picture?", one.lines[0])
                        for one in written]  # fmt: skip
    return {name: some for name, some in asked.items() if some}


def on_white(thing: Named, side: int = 224) -> Image.Image:
    """Returns a thing's first drawing, large on white."""
    picture, piece = Image.new("RGB", (side, side), (255, 255, 255)), render(thing.drawings[0])
    piece = piece.copy()
    piece.thumbnail((side * 9 // 10, side * 9 // 10))
    picture.paste(piece, ((side - piece.width) // 2, (side - piece.height) // 2), piece)
    return picture


def digest(asked: Sequence[tuple[Image.Image, str, str]]) -> str:
    """Returns the SHA-256 of the questions and names of a set, in hexadecimal."""
    texts = [[question, name] for _, question, name in asked]
    return hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()


def check_held_out(asked: Mapping[str, Sequence[tuple[Image.Image, str, str]]]) -> None:
    """Raises ValueError if a held-out set does not ask what was fixed before training."""
    fixed = json.loads(HELD_OUT.read_text(encoding="utf-8"))
    for name in fixed.keys() | asked.keys():
        found = {"questions": len(asked.get(name, ())), "sha256": digest(asked.get(name, ()))}
        if fixed.get(name) != found:
            raise ValueError(
                f"the held-out set {name} is {found}, not {fixed.get(name)} as in {HELD_OUT}; "
                "are the sources those of tiny_sources.json?"
            )


class SetWriter:
    """Draws the sets that are not there yet."""

    def __init__(self, material: Material, output: Path, *, share: float, seed: int) -> None:
        self.output, self.share, self.seed = output, share, seed
        self.own = OwnSets(material, seed)

    def write_all(self, at_once: int) -> None:
        """Draws some sets at a time, each in a process of its own."""
        context = multiprocessing.get_context("fork")  # what was read is shared, not sent
        keep = {"initializer": _keep_writer, "initargs": (self,)}
        with ProcessPoolExecutor(at_once, mp_context=context, **keep) as pool:
            drawn = {pool.submit(_write, name): name for name in (*OWN_SETS, *WORLDS, *CAPTIONED)}
            for one in as_completed(drawn):
                try:
                    print(f"{drawn[one]}: {one.result()}", flush=True)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    print(f"{drawn[one]} failed", file=sys.stderr, flush=True)
                    raise

    def write(self, name: str) -> str:
        """Draws a set, unless it is there; says what was done."""
        if name in OWN_SETS:
            writer, count = RecordWriter(self.output, name), self._count(OWN_SETS[name])
            if writer.path.is_file():
                return "kept"
            writer.write(self.own.make(name, count), is_video=name == "moving_things")
        else:
            worlds, count = self.output / "worlds", self._count((WORLDS | CAPTIONED)[name])
            if (worlds / f"{name}.json").is_file():
                return "kept"
            write_set(worlds, FAMILIES[name.removesuffix("_captions")], name=name, count=count,
                      seed=self.seed, image_format="jpeg",
                      teaches="aspects" if name in CAPTIONED else "questions")  # fmt: skip
        return f"{count:,} drawn"

    def _count(self, number: int) -> int:
        return max(2, round(number * self.share))


# The writer of a drawing process: inherited, since its material is a gigabyte.
WRITERS: list[SetWriter] = []


def _keep_writer(writer: SetWriter) -> None:
    WRITERS.append(writer)


def _write(name: str) -> str:
    return WRITERS[-1].write(name)


def main() -> int:
    """Writes everything; returns 1 if the held-out sets are other ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", help="the folder of tiny_fetch.py, or 'toy'")
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of every set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="sets at a time")
    parser.add_argument("--fix-heldout", action="store_true", help="write tiny_heldout.json")
    told = parser.parse_args()
    is_toy = told.sources == "toy"
    material = toy() if is_toy else read(Path(told.sources))
    drawings = sum(len(thing.drawings) for thing in material.things)
    print(f"{len(material.things):,} things in {drawings:,} drawings, {len(material.photos):,} "
          f"photographs, {len(material.faces)} typefaces", flush=True)  # fmt: skip
    asked = test_sets(material)
    if told.fix_heldout:
        sums = {name: {"questions": len(some), "sha256": digest(some)}
                for name, some in sorted(asked.items())}  # fmt: skip
        HELD_OUT.write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
    elif not is_toy:
        try:
            check_held_out(asked)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    for name, some in asked.items():
        few = some[: max(2, round(len(some) * told.share))] if is_toy else some
        writer = RecordWriter(told.output / "tests", name)
        writer.write(([picture], [(question, answer)]) for picture, question, answer in few)
    sets = SetWriter(material, told.output, share=told.share, seed=told.seed)
    sets.write_all(told.processes)
    sources = [] if is_toy else read_list()
    (told.output / "SOURCES.md").write_text(describe_sources(sources, material), encoding="utf-8")
    for path in MIXTURES.glob("tiny_v2_*.yaml"):
        shutil.copyfile(path, told.output / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
