"""Probes of the question: paraphrased, misspelt, in other languages, and about what is not there.

The picture of an index and what is asked of it are the same at every level, except for `absent`,
whose levels ask for different things.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onevision.conversation import Image
from onevision.eval.scoring.text import exact_match
from onevision.science.probes.item import Level, Probe, ProbeItem, drawn_item
from onevision.science.probes.pictures import SIDE, random_still
from onevision.synth.kit.scene import Scene, Thing, draw_scene, random_scene
from onevision.synth.kit.shapes import COLOURS, SHAPES
from onevision.synth.kit.words import yes_or_no
from onevision.synth.sample import rng_for
from onevision.values import from_plain, read_yaml

AS_TRAINED, ENGLISH = "as trained", "English"
FAMILIES = ("colour", "shape", "count", "where", "what_at", "size", "background", "exists")
# Families whose answers are words with a translation.
TRANSLATED = tuple(family for family in FAMILIES if family != "what_at")
# What else denies that something is there, where "there is no ring" is expected.
DENIAL = re.compile(r"\b(no|not|none|nothing|cannot|can't|isn't|doesn't)\b", re.IGNORECASE)
TYPOS = ("swap", "drop", "double", "beside")
# The keys beside each of a keyboard's.
BESIDE = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj",
    "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w",
    "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu",
    "z": "x",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """The contents of phrases.yaml."""

    wordings: Mapping[str, Mapping[str, str]]
    around: Mapping[str, str]
    languages: Mapping[str, Mapping[str, str]]
    words: Mapping[str, Mapping[str, str]]
    unknown: tuple[str, ...]

    def translate(self, word: str, language: str) -> str:
        """Returns a word in another language; numbers stay."""
        return self.words[word][language] if word in self.words else word


@dataclass(frozen=True, kw_only=True)
class SceneQuestion:
    """A scene, and what is asked about one of its things in any wording."""

    scene: Scene
    family: str
    thing: Thing
    # The colour and shape that are asked for; those of `exists` may differ from the thing's.
    colour: str
    shape: str

    @property
    def answer(self) -> str:
        """The right answer, in English."""
        thing = self.thing
        return {
            "colour": thing.colour,
            "shape": thing.shape,
            "count": str(len(self.scene.things)),
            "where": thing.place,
            "what_at": thing.name,
            "size": thing.size,
            "background": self.scene.ground,
            "exists": yes_or_no(bool(self.scene.having(colour=self.colour, shape=self.shape))),
        }[self.family]

    def fill(self, template: str) -> str:
        """Returns the question in a wording."""
        colour, shape = self.colour, self.shape
        return template.format(
            colour=colour, shape=shape, name=f"{colour} {shape}", place=self.thing.place
        )

    def ask(self, question: str, *, accepted: Sequence[str] = ()) -> ProbeItem:
        """Returns the item that asks in these words."""
        return drawn_item(
            [Image(draw_scene(self.scene, width=SIDE, height=SIDE))],
            question=question,
            expected=self.answer,
            family=self.family,
            accepted=accepted,
        )


@cache
def phrases() -> Phrases:
    """Reads phrases.yaml."""
    path = Path(__file__).with_name("phrases.yaml")
    return from_plain(Phrases, read_yaml(path), where=str(path))


def random_question(seed: int, index: int, families: Sequence[str]) -> SceneQuestion:
    """Generates a scene whose things differ in colour and in shape, and what is asked of it."""
    rng = rng_for("heldout", f"probes/{seed}/wording", index)
    scene = random_scene(rng, num_things=rng.randint(1, 5), distinct=True)
    family, thing = rng.choice(families), rng.choice(scene.things)
    colour, shape = thing.colour, thing.shape
    if family == "exists" and rng.random() < 0.5:
        colour = rng.choice([one for one in COLOURS if one != thing.colour])
    return SceneQuestion(scene=scene, family=family, thing=thing, colour=colour, shape=shape)


def misspell(text: str, num_typos: int, rng: random.Random) -> str:
    """Makes typing errors: letters swapped, dropped, doubled, or replaced by a key beside.

    The first ones are the same for any number of them.
    """
    for _ in range(num_typos):
        places = [n for n, letter in enumerate(text) if letter.isalpha()]
        kind, place, share = rng.choice(TYPOS), rng.random(), rng.random()
        if not places:
            return text
        n = places[int(place * len(places))]
        letter, rest = text[n], text[n + 1 :]
        if kind == "swap" and rest:
            text = text[:n] + rest[0] + letter + rest[1:]
        elif kind == "drop":
            text = text[:n] + rest
        elif kind == "beside" and letter.lower() in BESIDE:
            keys = BESIDE[letter.lower()]
            text = text[:n] + keys[int(share * len(keys))] + rest
        else:
            text = text[: n + 1] + letter + rest
    return text


def _paraphrased(level: Level, seed: int, index: int) -> ProbeItem:
    one, known = random_question(seed, index, FAMILIES), phrases()
    trained = one.fill(known.wordings[AS_TRAINED][one.family])
    if level.label in known.around:
        return one.ask(known.around[level.label].format(asked=trained))
    if level.label == "in capitals":
        return one.ask(trained.upper())
    return one.ask(one.fill(known.wordings[level.label][one.family]))


def _misspelt(level: Level, seed: int, index: int) -> ProbeItem:
    still = random_still(seed, index)
    rng = rng_for("heldout", f"probes/{seed}/misspelt", index)
    return drawn_item(
        [Image(draw_scene(still.scene, width=SIDE, height=SIDE))],
        question=misspell(still.question.question, round(level.value), rng),
        expected=still.question.answer,
        family=still.question.family,
    )


def _in_language(level: Level, seed: int, index: int) -> ProbeItem:
    one, known = random_question(seed, index, TRANSLATED), phrases()
    language = level.label
    if language == ENGLISH:
        return one.ask(one.fill(known.wordings[AS_TRAINED][one.family]))
    question = known.languages[language][one.family].format(
        colour=known.translate(one.colour, language), shape=known.translate(one.shape, language)
    )
    return one.ask(question, accepted=(known.translate(one.answer, language),))


def _about_absent(level: Level, seed: int, index: int) -> ProbeItem:
    rng = rng_for("heldout", f"probes/{seed}/absent", index)
    scene = random_scene(rng, num_things=rng.randint(1, 5), distinct=True)
    picture, thing = Image(draw_scene(scene, width=SIDE, height=SIDE)), rng.choice(scene.things)
    colour = rng.choice([one for one in COLOURS if not scene.having(colour=one)])
    shape = rng.choice([one for one in SHAPES if not scene.having(shape=one)])
    unknown = f"{colour} {rng.choice(phrases().unknown)}"
    if level.label == OPEN:
        return _ask_openly(picture, shape)
    name = {
        THERE: thing.name,
        "other colour": f"{colour} {thing.shape}",
        "other shape": f"{thing.colour} {shape}",
        "nothing alike": f"{colour} {shape}",
        "unknown thing": unknown,
    }[level.label]
    words = (f"Is there a {name}?", f"Does the picture show a {name}?")  # as `scenes` asks
    return drawn_item(
        [picture],
        question=rng.choice(words),
        expected=yes_or_no(level.label == THERE),
        family=level.label,
    )


def _ask_openly(picture: Image, shape: str) -> ProbeItem:
    """Asks about a thing as if it were there; any answer that denies it is right."""
    item = drawn_item(
        [picture],
        question=f"What colour is the {shape}?",
        expected=f"there is no {shape}",
        family=OPEN,
    )
    return ProbeItem(
        conversation=item.conversation,
        question=item.question,
        expected=item.expected,
        family=item.family,
        score=lambda answer: float(
            exact_match(answer, item.expected) or DENIAL.search(answer) is not None
        ),
    )


def _named_levels(*labels: str, trained: Sequence[str]) -> tuple[Level, ...]:
    return tuple(
        Level(label=label, value=number, trained=label in trained)
        for number, label in enumerate(labels)
    )


THERE, OPEN = "there", "asked as if there"
PARAPHRASE = Probe(
    name="paraphrase",
    title="how the question is worded",
    levels=_named_levels(
        AS_TRAINED, "a command", "other words", "polite", "after a story", "in capitals",
        trained=(AS_TRAINED,),
    ),
    make=_paraphrased,
)  # fmt: skip
MISSPELT = Probe(
    name="misspelt",
    title="typing errors in the question",
    levels=tuple(
        Level(label=str(count), value=count, trained=count == 0) for count in (0, 1, 2, 3, 5, 8)
    ),
    make=_misspelt,
)
LANGUAGES = Probe(
    name="language",
    title="language of the question",
    levels=_named_levels(ENGLISH, "German", "French", "Spanish", "Chinese", trained=(ENGLISH,)),
    make=_in_language,
    note="An answer is right in English and in the language of the question.",
)
ABSENT = Probe(
    name="absent",
    title="what is asked for, and is not there",
    levels=_named_levels(
        THERE, "other colour", "other shape", "nothing alike", "unknown thing", OPEN,
        trained=(THERE, "other colour", "other shape", OPEN),
    ),
    make=_about_absent,
    note="The first asks for a thing that is shown; its answer is yes, and the others' no.",
)  # fmt: skip
WORDING_PROBES: tuple[Probe, ...] = (PARAPHRASE, MISSPELT, LANGUAGES, ABSENT)
