"""Probes of sets and clips: how many pictures, in which order, and how many frames.

A set has one picture that is asked about and others beside it. At every level the question and its
picture are the same; what surrounds it, and its place, are not.
"""

import random
from dataclasses import dataclass

from onevision.conversation import Image, Video
from onevision.science.probes.item import Level, Probe, ProbeItem, drawn_item
from onevision.synth.kit.scene import Scene, draw_scene, random_scene
from onevision.synth.kit.words import ORDINALS
from onevision.synth.sample import rng_for
from onevision.synth.worlds.clips import clips

PLACES = (*ORDINALS, "thirteenth", "fourteenth", "fifteenth", "sixteenth")
NUM_ORDERED = 4


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The scene that a question is about, and what it asks of it."""

    scene: Scene
    family: str
    # The thing that the question names.
    thing: int

    @property
    def name(self) -> str:
        """What the named thing is: "red star"."""
        return self.scene.things[self.thing].name

    def pose(self, place: int, *, alone: bool) -> tuple[str, str]:
        """Returns question and answer if the scene is the picture at `place`, from 0."""
        thing, where = self.scene.things[self.thing], f" in the {PLACES[place]} picture"
        if self.family == "which_has" and not alone:
            return f"Which picture has a {thing.name}?", PLACES[place]
        if self.family == "nth_count":
            count = str(len(self.scene.things))
            asked = "are there" if alone else f"are{where}"
            return f"How many objects {asked}?", count
        return f"What colour is the {thing.shape}{'' if alone else where}?", thing.colour


def random_asked(rng: random.Random) -> Asked:
    """Generates a scene and chooses what is asked about it."""
    scene = random_scene(rng, num_things=rng.randint(1, 4), distinct=True)
    family = rng.choice(("nth_colour", "nth_count", "which_has"))
    return Asked(scene=scene, family=family, thing=rng.randrange(len(scene.things)))


def _other(rng: random.Random, asked: Asked) -> Scene:
    """Generates a scene without the thing that is asked about."""
    while True:
        scene = random_scene(rng, num_things=rng.randint(1, 4), distinct=rng.random() < 0.5)
        if all(thing.name != asked.name for thing in scene.things):
            return scene


def _ask_in_set(asked: Asked, others: list[Scene], *, place: int) -> ProbeItem:
    scenes = [*others[:place], asked.scene, *others[place:]]
    question, answer = asked.pose(place, alone=not others)
    return drawn_item(
        [Image(draw_scene(scene)) for scene in scenes],
        question=question,
        expected=answer,
        family=asked.family,
    )


def _with_pictures(level: Level, seed: int, index: int) -> ProbeItem:
    rng = rng_for("heldout", f"probes/{seed}/set", index)
    asked = random_asked(rng)
    others = [_other(rng, asked) for _ in range(round(level.value) - 1)]
    return _ask_in_set(asked, others, place=rng.randint(0, len(others)))


def _at_place(level: Level, seed: int, index: int) -> ProbeItem:
    rng = rng_for("heldout", f"probes/{seed}/order", index)
    asked = random_asked(rng)
    others = [_other(rng, asked) for _ in range(NUM_ORDERED - 1)]
    return _ask_in_set(asked, others, place=round(level.value))


def _with_frames(level: Level, seed: int, index: int) -> ProbeItem:
    rng, num_frames = rng_for("heldout", f"probes/{seed}/clip", index), round(level.value)
    if num_frames < clips.MIN_FRAMES:  # nothing can happen
        scene = random_scene(rng, num_things=rng.randint(1, 3), distinct=True)
        family = rng.choice(("nth_colour", "nth_count"))
        asked = Asked(scene=scene, family=family, thing=rng.randrange(len(scene.things)))
        question, answer = asked.pose(0, alone=True)
        frames = [draw_scene(scene)] * num_frames
        family = family.removeprefix("nth_")
        return drawn_item([Video(frames)], question=question, expected=answer, family=family)
    clip = clips.random_clip(rng, num_frames=num_frames)
    one = rng.choice(clip.questions)
    return drawn_item(
        [Video(clips.render(clip))],
        question=one.question,
        expected=one.answer,
        family=one.family,
    )


IMAGES = Probe(
    name="images",
    title="number of pictures",
    levels=tuple(
        Level(label=str(count), value=count, trained=2 <= count <= 4)
        for count in (1, 2, 3, 4, 6, 8, 12, 16)
    ),
    make=_with_pictures,
    note="Of one picture, no question says which.",
)
ORDER = Probe(
    name="order",
    title="place, among four pictures in any order, of the one asked about",
    levels=tuple(
        Level(label=PLACES[place], value=place, trained=True) for place in range(NUM_ORDERED)
    ),
    make=_at_place,
    note="The same four pictures at every level; only their order changes.",
)
FRAMES = Probe(
    name="frames",
    title="frames of a clip",
    levels=tuple(
        Level(label=str(count), value=count, trained=6 <= count <= 16)
        for count in (1, 4, 8, 16, 32, 64, 128)
    ),
    make=_with_frames,
    note="Of one frame, only colours and counts are asked.",
)
SEVERAL_PROBES: tuple[Probe, ...] = (IMAGES, ORDER, FRAMES)
