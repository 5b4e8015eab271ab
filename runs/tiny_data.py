"""What `tiny` and `small` learn and are asked: pictures, clips, records, mixtures, card's sources.

    python runs/tiny_data.py SOURCES OUT               everything, in pieces that are kept
    python runs/tiny_data.py SOURCES OUT --share 0.01  a hundredth of it
    python runs/tiny_data.py SOURCES OUT --share 0.2 --share-of photos=1 --english
                                                       a fifth, all photographs, nothing Chinese
    python runs/tiny_data.py toy OUT --share 0.0002    without any source: shapes and learned faces

    OUT/*.json, OUT/worlds/*.json   records, each with its media in a folder of its name
    OUT/tests/*.json                what no training picture shows: openmoji, groceries, clothes,
                                    tuxpaint, withheld things, writing in 64 typefaces never learned
    OUT/tiny_v2_*.yaml, small_*.yaml  the mixtures of their stages
    OUT/prompts.jsonl               requests without a picture, for a writer to answer
    OUT/SOURCES.md                  sources, terms, authors

A set that is there is not drawn again. The held-out sets must ask what tiny_heldout.json says.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import yaml
from PIL import Image
from tiny_fetch import read_list
from tiny_heldout import check_held_out, fix_held_out, test_sets
from tiny_material import Material, describe_sources, read, toy
from tiny_scenes import WHAT, Teller, Turns, capital, open_photo
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
IN_CHINESE = ("chinese_documents",)
# Requests that need no picture: what a model that learns pictures must not forget to answer.
NUM_PROMPTS = 4_000  # at share 1
REQUESTS = (
    "What is {one}?", "Tell me about {one}.", "What is {one} used for, or where is it found?",
    "Write two sentences about {one}.", "What do {one} and {other} have in common?",
    "What is the difference between {one} and {other}?", "Write a short poem about {one}.",
    "Name three things that go well with {one}.", "Tell a very short story with {one} and {other}.",
    "Explain to a child what {one} is.", "Give me a fact about {one}.",
    "Write a sentence with the words {one} and {other}.",
)  # fmt: skip
MIXTURES = Path(__file__).parents[1] / "onevision" / "mixtures"
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


class SetWriter:
    """Draws the sets that are not there yet."""

    def __init__(
        self, material: Material, output: Path, *, counts: Mapping[str, int], seed: int
    ) -> None:
        self.output, self.counts, self.seed = output, counts, seed
        self.own = OwnSets(material, seed)

    def write_all(self, at_once: int) -> None:
        """Draws some sets at a time, each in a process of its own."""
        context = multiprocessing.get_context("fork")  # what was read is shared, not sent
        keep = {"initializer": _keep_writer, "initargs": (self,)}
        with ProcessPoolExecutor(at_once, mp_context=context, **keep) as pool:
            drawn = {pool.submit(_write, name): name for name in self.counts}
            for one in as_completed(drawn):
                try:
                    print(f"{drawn[one]}: {one.result()}", flush=True)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    print(f"{drawn[one]} failed", file=sys.stderr, flush=True)
                    raise

    def write(self, name: str) -> str:
        """Draws a set, unless it is there; says what was done."""
        count = self.counts[name]
        if name in OWN_SETS:
            writer = RecordWriter(self.output, name)
            if writer.path.is_file():
                return "kept"
            writer.write(self.own.make(name, count), is_video=name == "moving_things")
        else:
            worlds = self.output / "worlds"
            if (worlds / f"{name}.json").is_file():
                return "kept"
            write_set(worlds, FAMILIES[name.removesuffix("_captions")], name=name, count=count,
                      seed=self.seed, image_format="jpeg",
                      teaches="aspects" if name in CAPTIONED else "questions")  # fmt: skip
        return f"{count:,} drawn"


def count_samples(share: float, shares: Sequence[str], *, english: bool) -> dict[str, int]:
    """Returns how many samples of each set are drawn; `shares` are those of sets, as "photos=1".

    Raises ValueError for a set that there is not.
    """
    every = OWN_SETS | WORLDS | CAPTIONED
    own = {name: float(text) for name, _, text in (one.partition("=") for one in shares)}
    if unknown := own.keys() - every.keys():
        raise ValueError(f"--share-of {min(unknown)}: no such set; there are {', '.join(every)}")
    return {
        name: max(2, round(number * own.get(name, share)))
        for name, number in every.items()
        if not (english and name in IN_CHINESE)
    }


def without_chinese(material: Material) -> Material:
    """Returns the same things without their names in Chinese."""
    things = tuple(replace(thing, chinese="") for thing in material.things)
    return replace(material, things=things)


def write_prompts(material: Material, path: Path, *, share: float, seed: int) -> None:
    """Writes requests without a picture, about things that training names."""
    rng = random.Random(f"{seed}/prompts")
    names = sorted(thing.phrase for thing in Teller(material, rng).things)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(max(2, round(NUM_PROMPTS * share))):
            one, other = rng.sample(names, 2)
            request = rng.choice(REQUESTS).format(one=one, other=other)
            file.write(json.dumps({"prompt": request}) + "\n")


def copy_mixtures(output: Path, *, english: bool) -> None:
    """Copies the mixtures of the stages, without the sets that are not drawn."""
    left_out = {f"worlds/{name}.json" for name in IN_CHINESE} if english else set[str]()
    for path in sorted((*MIXTURES.glob("tiny_v2_*.yaml"), *MIXTURES.glob("small_*.yaml"))):
        mixture = yaml.safe_load(path.read_text(encoding="utf-8"))
        kept = [one for one in mixture["datasets"] if one["json_path"] not in left_out]
        text = yaml.safe_dump(mixture | {"datasets": kept}, sort_keys=False, allow_unicode=True)
        (output / path.name).write_text(text, encoding="utf-8")


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
    parser.add_argument("--share-of", action="append", default=[], metavar="SET=SHARE")
    parser.add_argument("--english", action="store_true", help="nothing in Chinese")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="sets at a time")
    parser.add_argument("--fix-heldout", action="store_true", help="write tiny_heldout.json")
    told = parser.parse_args()
    try:
        counts = count_samples(told.share, told.share_of, english=told.english)
    except ValueError as error:
        parser.error(str(error))
    is_toy = told.sources == "toy"
    material = toy() if is_toy else read(Path(told.sources))
    drawings = sum(len(thing.drawings) for thing in material.things)
    print(f"{len(material.things):,} things in {drawings:,} drawings, {len(material.photos):,} "
          f"photographs, {len(material.faces)} typefaces", flush=True)  # fmt: skip
    asked = test_sets(material)
    if told.fix_heldout:
        fix_held_out(asked)
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
    if told.english:
        material = without_chinese(material)
    SetWriter(material, told.output, counts=counts, seed=told.seed).write_all(told.processes)
    write_prompts(material, told.output / "prompts.jsonl", share=told.share, seed=told.seed)
    sources = [] if is_toy else read_list()
    (told.output / "SOURCES.md").write_text(describe_sources(sources, material), encoding="utf-8")
    copy_mixtures(told.output, english=told.english)
    return 0


if __name__ == "__main__":
    sys.exit(main())
